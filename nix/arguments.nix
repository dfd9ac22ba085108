# The rules for the arguments of `mkImage`, checked at evaluation. A wrong argument would otherwise be found late: by an engine
# that refuses the image, or by an agent that does not work in it. The result is a list of sentences, one for each mistake.
{ lib }:
{
  pkgs,
  tools,
  devShell,
  agent,
  libraries,
  base,
  nix,
  name,
  tag,
  env,
  user,
  directories,
  maxLayers,
  labels,
  created,
  revision,
}:
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatStringsSep
    elem
    elemAt
    filter
    fromJSON
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isPath
    isString
    match
    replaceStrings
    stringLength
    toJSON
    ;

  matches = pattern: text: isString text && match pattern text != null;
  isPackage = value: isAttrs value && (value.type or "") == "derivation";
  # A package that is compiled on another processor has the system of that processor.
  systems = [
    pkgs.stdenv.hostPlatform.system
    pkgs.stdenv.buildPlatform.system
    "builtin"
  ]
  # Such processors also run 32-bit programs.
  ++ lib.optional pkgs.stdenv.hostPlatform.isx86_64 "i686-linux";
  isForImage = value: !(value ? system) || elem value.system systems;
  # Whether a value can become text: a string, a number, a boolean, a path or a package.
  isText =
    value:
    isString value || isInt value || isFloat value || isBool value || isPath value || isPackage value;

  show =
    value:
    if isPackage value then
      "the package ${value.name}"
    else if isAttrs value then
      "a set"
    else if isList value then
      "a list"
    else if builtins.isFunction value then
      "a function"
    else if isPath value then
      "the path ${toString value}"
    else
      toJSON value;

  # One sentence if the condition does not hold: it names the argument and its wrong value, and `right` says which values are right.
  rule =
    condition: argument: value: right:
    if condition then [ ] else [ "`${argument}` is ${show value}; ${right}" ];
  # The sentences of `rules` for the elements of a list, or one sentence if it is not a list.
  each =
    argument: values: right: rules:
    if isList values then concatLists (map rules values) else rule false argument values right;
  # The rule of a package: it must be for the system of the image. On a Mac it is easy to pass packages of the Mac.
  package =
    argument: value: condition: right:
    if condition && !isForImage value then
      rule false argument value
        "it is for ${value.system}, and the programs of the image are for ${pkgs.stdenv.hostPlatform.system}: take it from `pkgs`"
    else
      rule condition argument value right;
  # The sentences of `rules` for the names and values of a set, or one sentence if it is not a set.
  eachOf =
    argument: set: right: rules:
    if isAttrs set && !isPackage set then
      concatLists (map (name: rules name set.${name}) (attrNames set))
    else
      rule false argument set right;

  # The grammar of references that the OCI distribution specification and Docker use. Nix writes the name in lower case.
  host = "[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?";
  part = "[A-Za-z0-9]+(([.]|_|__|-+)[A-Za-z0-9]+)*";
  # The last part is in the names of store paths, which Nix limits to 211 characters.
  isName =
    text:
    matches "(${host}/)?${part}(/${part})*" text
    && stringLength text <= 255
    && stringLength (baseNameOf text) <= 128;

  # Whether a text is a date as RFC 3339 specifies, on a day that the calendar has.
  isDate =
    text:
    let
      date = "([0-9]{4})-([0-9]{2})-([0-9]{2})";
      time = "([01][0-9]|2[0-3]):[0-5][0-9]";
      parts = match "${date}T${time}:[0-5][0-9]([.][0-9]+)?(Z|[+-]${time})" text;
      # JSON knows no numbers with a zero in front.
      partAsNumber = index: fromJSON (elemAt (match "0*([0-9]+)" (elemAt parts index)) 0);
      year = partAsNumber 0;
      month = partAsNumber 1;
      day = partAsNumber 2;
      isDivisibleBy = number: year / number * number == year;
      daysInMonth =
        if month == 2 then
          if isDivisibleBy 4 && (!isDivisibleBy 100 || isDivisibleBy 400) then 29 else 28
        else if
          elem month [
            4
            6
            9
            11
          ]
        then
          30
        else
          31;
    in
    isString text && parts != null && month >= 1 && month <= 12 && day >= 1 && day <= daysInMonth;

  isVariable = matches "[A-Za-z_][A-Za-z0-9_]*";
  variableRule = "the name of a variable consists of letters, digits and `_`, and does not begin with a digit";

  # Only characters to which neither a shell nor /etc/passwd gives a meaning; no `.` and no `..` between the slashes.
  isDirectory =
    text: matches "(/[A-Za-z0-9._+@-]+)+" text && match "(.*/)?[.][.]?(/.*)?" text == null;
  isReserved =
    text:
    elem (lib.head (match "/([^/]*).*" text)) [
      "app"
      "bin"
      "dev"
      "etc"
      "lib"
      "lib64"
      "nix"
      "opt"
      "proc"
      "root"
      "run"
      "sys"
      "tmp"
      "usr"
    ];
  directory =
    argument: value:
    if !isDirectory value then
      rule false argument value
        "a directory is an absolute path of letters, digits and the characters . _ + @ -, such as /home/worker"
    else
      rule (!isReserved value) argument value
        "the image or the container's platform owns that directory; choose one such as /home/worker or /data";

  # 65534 is `nobody`, 0 is root. Docker refuses numbers that do not fit into 31 bits.
  isId = value: isInt value && value > 0 && value <= 2147483647 && value != 65534;
  idRule = "a number from 1 to 2147483647, but not 65534 (nobody): the worker and its agent do not run as root";

  packages =
    argument: values:
    each argument values "it is a list of packages, such as [ pkgs.python3 ]" (
      value:
      package argument value (
        isPackage value || isPath value
      ) "each element is a package, such as pkgs.python3"
    );

  setByUser = {
    HOME = "home";
    LOGNAME = "name";
    SHELL = "shell";
    USER = "name";
  };
  # The worker refuses to start with a setting that it does not know.
  tableOfSettings = builtins.readFile ../src/config/settings.rs;
  isSetting = name: replaceStrings [ "\"${name}\"" ] [ "" ] tableOfSettings != tableOfSettings;
  variable =
    name: value:
    if !isVariable name then
      rule false "env" name variableRule
    else if setByUser ? ${name} then
      rule false "env.${name}" value
        "set `user.${setByUser.${name}}` instead, so that the image fits the variable"
    else if lib.hasPrefix "LD_" name then
      rule false "env.${name}" value
        "the worker and its git would load these libraries too; set it in the `devShell`, whose variables only the agent and the checks get"
    else if name == "DESCARTES_AGENT_ENV_FILE" then
      rule false "env.${name}" value
        "the image has such a file already; set variables in `env` or in the `devShell`"
    else if name == "DESCARTES_" || lib.hasPrefix "DESCARTES_" name && !isSetting name then
      rule false "env" name "the worker has no such setting; docs/reference.md lists all settings"
    else if !isText value then
      rule false "env.${name}" value "a variable's value is a string, a number, a boolean or a path"
    else if name == "PATH" then
      # An empty element would be the current directory.
      rule (
        isPath value || isPackage value || matches "/[^:]*(:/[^:]*)*" value
      ) "env.PATH" value "it is a list of absolute directories, separated by colons"
    else if name == "DESCARTES_AGENT_ENV" then
      rule
        (
          isString value
          && all (name: isVariable name && !lib.hasPrefix "DESCARTES_" name) (
            filter (name: isString name && name != "") (builtins.split "[ ,]+" value)
          )
        )
        "env.${name}"
        value
        "it is a list of names of variables, separated by commas or spaces; names with DESCARTES_ are for the worker alone"
    else
      [ ];

  userRules = {
    name =
      rule
        (
          matches "[a-z_][a-z0-9_-]{0,31}" user.name
          && !elem user.name [
            "root"
            "nobody"
          ]
        )
        "user.name"
        user.name
        "a name has at most 32 lower-case letters, digits, `_` and `-`, begins with a letter or `_`, and is neither root nor nobody";
    uid = rule (isId user.uid) "user.uid" user.uid idRule;
    gid = rule (isId user.gid) "user.gid" user.gid idRule;
    home = directory "user.home" user.home;
    shell =
      rule (isDirectory user.shell) "user.shell" user.shell
        "a shell is the absolute path of a program, such as /bin/bash";
  };
in
filter isString (concatLists [
  (rule (isName name) "name" name
    "a name is like project/worker or registry.example:5000/worker: letters and digits, in between . _ - and /, at most 255 characters, and 128 after the last /"
  )
  (rule (tag == null || matches "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}" tag) "tag" tag
    "a tag has at most 128 letters, digits and the characters _ . -, and does not begin with . or -"
  )
  (rule (
    isInt maxLayers && maxLayers >= 2 && maxLayers <= 127
  ) "maxLayers" maxLayers "it is a number from 2 to 127, which is the most that Docker allows")
  (rule (isDate created) "created" created
    "it is a date in the format of RFC 3339, such as 2026-01-02T03:04:05Z"
  )
  (rule (
    revision == null || matches "[!-~]+" revision
  ) "revision" revision "it names a commit of your project, such as self.rev")
  (rule (elem base [
    "full"
    "minimal"
  ]) "base" base "the bases are \"full\" and \"minimal\"")
  (rule (isBool nix) "nix" nix "it is true or false")
  (packages "tools" tools)
  (packages "libraries" libraries)
  (package "devShell" devShell (
    devShell == null || devShell ? overrideAttrs && devShell ? drvAttrs
  ) "it is one shell made with mkShell, such as self.devShells.x86_64-linux.default")
  (package "agent" agent (
    agent == null || isPackage agent
  ) "it is the package of a coding agent, such as pkgs.opencode")
  (eachOf "env" env "it is a set of variables, such as { GREETING = \"hello\"; }" variable)
  (eachOf "labels" labels "it is a set of labels" (
    label: value:
    rule (matches "[!-~]+" label) "labels" label "a label's name has no spaces"
    ++
      rule (isText value) "labels.\"${label}\"" value
        "a label's value is a string, a number or a boolean"
  ))
  (eachOf "user" user "it is a set with name, uid, gid, home or shell" (
    attribute: value:
    userRules.${attribute}
      or (rule false "user" attribute "the attributes are ${concatStringsSep ", " (attrNames userRules)}")
  ))
  (each "directories" directories "it is a list of directories" (directory "directories"))
])
