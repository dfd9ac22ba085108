# Calls of `mkImage`, and what is wrong with each: the beginning of the sentence, or nothing if the call is right. `tests/nix/run`
# gives each to nix/arguments.nix, which `mkImage` asks.
{
  pkgs,
  # The packages for other systems: for a Mac, for Linux on ARM, and for 32-bit programs on this processor.
  macPackages,
  armPackages,
  i686Packages,
}:
let
  wrong = arguments: begins: { inherit arguments begins; };
  right = arguments: wrong arguments null;
  inherit (builtins) genList;
  concat = builtins.concatStringsSep "";
  quoted = argument: value: "`${argument}` is ${builtins.toJSON value}; ";
  # One call for each of these wrong values of an argument.
  wrongValues = argument: values: map (value: wrong { ${argument} = value; } (quoted argument value)) values;
  # One call for each of these wrong values of an attribute of an argument.
  wrongAttributes =
    argument: attribute: values:
    map (
      value: wrong { ${argument}.${attribute} = value; } (quoted "${argument}.${attribute}" value)
    ) values;
  users = wrongAttributes "user";
in
[
  (right { })
  (right {
    name = "registry.example:5000/team/my-project__worker.x";
    tag = "v1.2_3-rc.1";
    env = {
      GREETING = "\"quotes\", $dollars, \n lines and ünïcode";
      NUMBER = 80;
      RATIO = 0.5;
      FLAG = true;
      FILE = ./run;
      TOOL = pkgs.hello;
      PATH = "/opt/tools/bin:/opt/more tools/bin";
      DESCARTES_TASK_TIMEOUT = "10m";
      DESCARTES_AGENT_ENV = "ONE, _two THREE3";
      _x1 = "";
    };
    labels = {
      "org.example.number" = 7;
      "org.example.flag" = false;
    };
    user = {
      name = "my-user_1";
      uid = 2147483647;
      gid = 1;
      home = "/var/lib/my.user";
      shell = "/bin/sh";
    };
    directories = [
      "/data/cache"
      "/home/worker/.cargo"
    ];
    tools = [
      pkgs.hello
      i686Packages.hello
      ./run
    ];
    libraries = [ pkgs.zlib ];
    maxLayers = 127;
    created = "2026-01-02T03:04:05+02:00";
    revision = "0123456789abcdef-dirty";
    agent = pkgs.hello;
    devShell = pkgs.mkShellNoCC { };
    base = "minimal";
    nix = true;
  })
  # Docker has no upper-case names; Nix writes the name in lower case.
  (right { name = "MyProject"; })
  (right { tag = null; })
  (right { name = concat (genList (_: "a") 127) + "b"; })
  (right { created = "2028-02-29T23:59:59Z"; })
  (right { created = "2000-02-29T00:00:00.5-12:30"; })
  (right { env.PATH = pkgs.hello; })
  (right { env.DESCARTES_AGENT_ENV = ""; })
]
++ wrongValues "name" [
  ""
  "my project"
  "-worker"
  "worker-"
  "a..b"
  "a//b"
  "team/"
  "worker:1"
  "wörker"
  (concat (genList (_: "a") 129))
  (concat (genList (_: "a/") 128) + "b")
  7
  null
]
++ wrongValues "tag" [
  ""
  "1.0+git"
  ".hidden"
  "-1"
  "a b"
  "a/b"
  (concat (genList (_: "1") 129))
  7
]
++ wrongValues "maxLayers" [
  1
  128
  "20"
]
++ wrongValues "created" [
  "now"
  "2026-01-02"
  "2026-01-02 03:04:05"
  "2026-00-02T03:04:05Z"
  "2026-13-02T03:04:05Z"
  "2026-01-00T03:04:05Z"
  "2026-01-32T03:04:05Z"
  "2026-04-31T03:04:05Z"
  "2026-02-29T03:04:05Z"
  "2100-02-29T03:04:05Z"
  "2026-01-02T24:04:05Z"
  "2026-01-02T03:60:05Z"
  "2026-01-02T03:04:05"
  0
]
++ wrongValues "revision" [
  ""
  "a b"
]
++ wrongValues "base" [ "tiny" ]
++ wrongValues "nix" [ "yes" ]
++ users "name" [
  "root"
  "nobody"
  "Worker"
  "a b"
  "a:b"
  ""
]
++ users "uid" [
  0
  (-1)
  65534
  2147483648
  "1000"
]
++ users "gid" [
  0
  65534
  2147483648
]
++ users "home" [
  "/"
  "home/worker"
  "/home/my user"
  "/home/../etc"
  "/home/."
  "/home/$USER"
  "/home/a:b"
  "/home/worker/"
  "/nix/home"
  "/tmp"
  "/app"
  "/root"
  null
]
++ users "shell" [
  "bash"
  "/bin/ba sh"
]
++ map (name: wrong { env.${name} = ""; } (quoted "env" name)) [
  "A B"
  "1X"
  "A-B"
  "A,B"
  "A=B"
  ""
  "DESCARTES_TASK_TIMOUT"
  "DESCARTES_"
]
++ map (name: wrong { env.${name} = "x"; } "`env.${name}` is \"x\"; ") [
  "HOME"
  "USER"
  "LOGNAME"
  "SHELL"
  "LD_LIBRARY_PATH"
  "LD_PRELOAD"
  "DESCARTES_AGENT_ENV_FILE"
]
++ wrongAttributes "env" "PATH" [
  ""
  ":/bin"
  "/bin:"
  "/bin::/usr/bin"
  "bin"
  7
]
++ wrongAttributes "env" "DESCARTES_AGENT_ENV" [
  "A-B"
  "1X"
  "A;B"
  "A DESCARTES_TOKEN"
  7
]
++ [
  (wrong { env.A = null; } "`env.A` is null; ")
  (wrong { env.A = [ ]; } "`env.A` is a list; ")
  (wrong { env.A = { }; } "`env.A` is a set; ")
  (wrong { env = [ "A=1" ]; } "`env` is a list; ")
  (wrong { labels.a = null; } "`labels.\"a\"` is null; ")
  (wrong { labels."a b" = "x"; } "`labels` is \"a b\"; ")
  (wrong { labels = "a=b"; } "`labels` is \"a=b\"; ")
  (wrong { user.id = 7; } "`user` is \"id\"; the attributes are gid, home, name, shell, uid")
  (wrong { user = "me"; } "`user` is \"me\"; ")
  (wrong { tools = pkgs.hello; } "`tools` is the package hello; ")
  (wrong { tools = [ "hello" ]; } "`tools` is \"hello\"; ")
  (wrong
    {
      tools = [
        pkgs.hello
        macPackages.tree
      ];
    }
    "`tools` is the package tree; it is for aarch64-darwin, and the programs of the image are for x86_64-linux: "
  )
  (wrong { tools = [ armPackages.tree ]; } "`tools` is the package tree; it is for aarch64-linux")
  (wrong { libraries = [ macPackages.zlib ]; } "`libraries` is the package zlib; it is for aarch64-darwin")
  (wrong { agent = macPackages.opencode; } "`agent` is the package opencode; it is for aarch64-darwin")
  (wrong {
    devShell = macPackages.mkShellNoCC { };
  } "`devShell` is the package nix-shell; it is for aarch64-darwin")
  (wrong { libraries = [ 7 ]; } "`libraries` is 7; ")
  (wrong { devShell = { }; } "`devShell` is a set; ")
  (wrong { agent = "opencode"; } "`agent` is \"opencode\"; ")
  (wrong { directories = "/data"; } "`directories` is \"/data\"; ")
  (wrong { directories = [ "data" ]; } "`directories` is \"data\"; ")
  (wrong { directories = [ "/etc/x" ]; } "`directories` is \"/etc/x\"; ")
]
