# How much each part of an image costs: the bytes that the image would be smaller without it. The input is what Nix gives a builder
# with `exportReferencesGraph`: .graph has each store path with its size and its references. .programs is the directory with links
# to the programs, and .others lists the other parts. $worker is the size of the worker.
def without_hash: sub("^.*/[0-9a-z]{32}-"; "");

# All paths that $from needs.
def needed($references; $from):
  { found: {}, next: $from }
  | until(
      .next == [];
      .found += (.next | map({ key: ., value: true }) | from_entries)
      | .found as $found
      | .next |= (map($references[.][]) | unique | map(select($found[.] | not)))
    )
  | .found
  | keys;

(.graph | map({ key: .path, value: .references }) | from_entries) as $references
| (.graph | map({ key: .path, value: .narSize }) | from_entries) as $sizes
| ($references[.programs] - [.programs] + .others | unique) as $parts
| def size($from): needed($references; $from) | map($sizes[.]) | add // 0;
  size($parts) as $all
| ($parts | map({ bytes: ($all - size($parts - [.])), part: without_hash })) as $rows
| ($rows | sort_by([-.bytes, .part]))
  + [
    { bytes: $worker, part: "the worker" },
    { bytes: ($all - ($rows | map(.bytes) | add // 0)), part: "used by several parts" },
    { bytes: ($all + $worker), part: "everything" }
  ]
| .[]
| "\(.bytes)\t\(.part)"
