# Calls of `mkImage`, and what is wrong with each: the beginning of the sentence, or nothing if the call is right. `tests/nix/run`
# gives each to nix/arguments.nix, which `mkImage` asks.
{ pkgs }:
let
  bad = arguments: begins: { inherit arguments begins; };
  good = arguments: bad arguments null;
  quoted = argument: value: "`${argument}` is ${builtins.toJSON value}; ";
  # The same wrong value for each of a list.
  all = argument: values: map (value: bad { ${argument} = value; } (quoted argument value)) values;
  users =
    attribute: values:
    map (value: bad { user.${attribute} = value; } (quoted "user.${attribute}" value)) values;
in
[
  (good { })
  (good {
    name = "registry.example:5000/team/my-project__worker.x";
    tag = "v1.2_3-rc.1";
    env = {
      GREETING = "\"quotes\", $dollars, \n lines and ünïcode";
      NUMBER = 80;
      RATIO = 0.5;
      FLAG = true;
      FILE = ./run;
      TOOL = pkgs.hello;
      PATH = "/opt/tools/bin";
      DESCARTES_TASK_TIMEOUT = "10m";
      _x1 = "";
    };
    labels = {
      "org.example.number" = 7;
      "org.example.flag" = false;
    };
    user = {
      name = "my-user_1";
      uid = 1000660000;
      gid = 1;
      home = "/var/lib/my.user";
      shell = "/bin/sh";
    };
    directories = [
      "/data/cache"
      "/home/worker/.cargo"
    ];
    tools = [ pkgs.hello ];
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
  (good { name = "MyProject"; })
  (good { tag = null; })
]
++ all "name" [
  ""
  "my project"
  "-worker"
  "worker-"
  "a..b"
  "a//b"
  "team/"
  "worker:1"
  "wörker"
  (builtins.concatStringsSep "" (builtins.genList (_: "a") 256))
  7
  null
]
++ all "tag" [
  ""
  "1.0+git"
  ".hidden"
  "-1"
  "a b"
  "a/b"
  (builtins.concatStringsSep "" (builtins.genList (_: "1") 129))
  7
]
++ all "maxLayers" [
  1
  128
  "20"
]
++ all "created" [
  "now"
  "2026-01-02"
  "2026-01-02 03:04:05"
]
++ all "revision" [
  ""
  "a b"
]
++ all "base" [ "tiny" ]
++ all "nix" [ "yes" ]
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
  4294967295
  "1000"
]
++ users "gid" [
  0
  65534
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
]
++ users "shell" [
  "bash"
  "/bin/ba sh"
]
++ map (name: bad { env.${name} = ""; } (quoted "env" name)) [
  "A B"
  "1X"
  "A-B"
  "A,B"
  "A=B"
  ""
]
++ map (name: bad { env.${name} = "x"; } "`env.${name}` is \"x\"; ") [
  "HOME"
  "USER"
  "LOGNAME"
  "SHELL"
  "LD_LIBRARY_PATH"
  "LD_PRELOAD"
  "DESCARTES_AGENT_ENV_FILE"
]
++ [
  (bad { env.A = null; } "`env.A` is null; ")
  (bad { env.A = [ ]; } "`env.A` is a list; ")
  (bad { env.A = { }; } "`env.A` is a set; ")
  (bad { env = [ "A=1" ]; } "`env` is a list; ")
  (bad { labels.a = null; } "`labels.\"a\"` is null; ")
  (bad { labels."a b" = "x"; } "`labels` is \"a b\"; ")
  (bad { labels = "a=b"; } "`labels` is \"a=b\"; ")
  (bad { user.id = 7; } "`user` is \"id\"; the attributes are gid, home, name, shell, uid")
  (bad { user = "me"; } "`user` is \"me\"; ")
  (bad { tools = pkgs.hello; } "`tools` is the package hello; ")
  (bad { tools = [ "hello" ]; } "`tools` is \"hello\"; ")
  (bad { libraries = [ 7 ]; } "`libraries` is 7; ")
  (bad { devShell = { }; } "`devShell` is a set; ")
  (bad { agent = "opencode"; } "`agent` is \"opencode\"; ")
  (bad { directories = "/data"; } "`directories` is \"/data\"; ")
  (bad { directories = [ "data" ]; } "`directories` is \"data\"; ")
  (bad { directories = [ "/etc/x" ]; } "`directories` is \"/etc/x\"; ")
]
