# The variables of an image that the agent and the checks alone get: $base, and what $shell sets and $empty_shell does not. Both
# are what `env --null` prints: $shell in the project's shell, $empty_shell in an empty one. $named lists the names in the call of
# mkShell: those variables are in the result even if an empty shell has them too, such as TERM. $path is the search path of the image.
def variables:
  split("\u0000")
  | map(select(. != "") | index("=") as $at | { key: .[:$at], value: .[$at + 1:] })
  | from_entries;
def directories: (.PATH // "") | split(":") | map(select(. != ""));

($empty_shell | variables) as $empty
| ($shell | variables) as $shell
| ($empty | directories) as $builder_path
| (
    $shell
    | with_entries(
        .key as $name
        # Bash exports functions too, under names that are not names of variables.
        | select($name | test("^[A-Za-z_][A-Za-z0-9_]*$"))
        # Paths of the builder; settings of the worker.
        | select($name | test("^(NIX_ATTRS_(JSON|SH)_FILE$|DESCARTES_)") | not)
        | select(($empty | has($name) | not) or any($named[]; . == $name))
      )
  ) as $variables
| $base
+ $variables
+ {
    # The programs of the shell, then those of the image, then those that every builder has: among them is a bash without line
    # editing, which must not come before the image's.
    PATH: (($shell | directories) - $builder_path + ($path | split(":")) + ($builder_path - ($builder_path - ($shell | directories))) | join(":"))
  }
