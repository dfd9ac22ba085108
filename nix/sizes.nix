# A table of what each part of an image costs. The sizes are those of the files, before a registry's compression.
{
  pkgs,
  # For the name of the derivation.
  name,
  # The directory with links to the programs, and the other parts of the image.
  programs,
  others,
  # The worker's program.
  worker,
}:
pkgs.runCommand "${name}-sizes"
  {
    nativeBuildInputs = [ pkgs.jq ];
    __structuredAttrs = true;
    exportReferencesGraph.graph = [ programs ] ++ others;
    programs = "${programs}";
    others = map (part: "${part}") others;
  }
  ''
    jq --raw-output --from-file ${./sizes.jq} \
      --argjson worker "$(stat --format %s ${worker})" "$NIX_ATTRS_JSON_FILE" |
      numfmt --to si --suffix B --padding 8 > $out
  ''
