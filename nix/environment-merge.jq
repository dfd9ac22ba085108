# Adds the variables of a shell, $given[0], to an image's configuration. What the image sets stays, but for PATH, where the
# shell's programs come first. The agent may see what the shell sets.
$given[0] as $given
| (.config.Env | map(index("=") as $at | { key: .[:$at], value: .[$at + 1:] }) | from_entries) as $image
| [
    ($image.DESCARTES_AGENT_ENV // empty),
    ($given | keys[] | select(. as $name | $image | has($name) | not) | select(startswith("DESCARTES_") | not))
  ] as $visible
| .config.Env = (
    $given
    + $image
    + { PATH: "\($given.PATH):\($image.PATH)" }
    + (if $visible == [] then {} else { DESCARTES_AGENT_ENV: ($visible | join(",")) } end)
    | to_entries
    | map("\(.key)=\(.value)")
  )
