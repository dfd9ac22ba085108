# What $shell sets and $bare does not, as an object; both are what `env --null` prints.
def variables:
  split("\u0000")
  | map(select(. != "") | index("=") as $at | { key: .[:$at], value: .[$at + 1:] })
  | from_entries;

($bare | variables) as $bare
| $shell
| variables
| with_entries(
    .key as $name
    # Bash exports functions too, under names that are none.
    | select(($name | test("^[A-Za-z_][A-Za-z0-9_]*$")) and ($name == "PATH" or ($bare | has($name) | not)))
  )
