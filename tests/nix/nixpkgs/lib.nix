# The functions of nixpkgs' library that this project uses. They compute what the real ones do, for the arguments they get here.
let
  inherit (builtins)
    attrNames
    concatLists
    concatStringsSep
    listToAttrs
    pathExists
    readDir
    stringLength
    substring
    ;
  lib = rec {
    inherit (builtins)
      attrNames
      concatStringsSep
      filter
      mapAttrs
      ;
    genAttrs =
      names: value:
      listToAttrs (
        map (name: {
          inherit name;
          value = value name;
        }) names
      );
    mapAttrsToList = function: set: map (name: function name set.${name}) (attrNames set);
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    hasSuffix =
      suffix: text:
      let
        start = stringLength text - stringLength suffix;
      in
      start >= 0 && substring start (stringLength suffix) text == suffix;
    head = builtins.head;
    concatMapStringsSep =
      separator: function: list:
      concatStringsSep separator (map function list);
    optionals = condition: list: if condition then list else [ ];
    subtractLists = without: builtins.filter (element: !builtins.elem element without);
    boolToString = value: if value then "true" else "false";
    importJSON = file: builtins.fromJSON (builtins.readFile file);
    getLib = package: package;
    getBin = package: package;
    licenses = {
      mit.spdxId = "MIT";
      asl20.spdxId = "Apache-2.0";
    };
    removeSuffix =
      suffix: text:
      if hasSuffix suffix text then substring 0 (stringLength text - stringLength suffix) text else text;
    escapeShellArgs =
      arguments:
      concatStringsSep " " (
        map (argument: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] argument}'") arguments
      );
    importTOML = file: builtins.fromTOML (builtins.readFile file);
    getName = package: package.pname or package.name;
    getExe = package: "${package}/bin/${package.meta.mainProgram or package.name}";
    assertMsg = condition: message: if condition then true else throw message;

    # Sets of files as lists of their paths below the flake.
    fileset =
      let
        below =
          predicate: path:
          concatLists (
            mapAttrsToList (
              name: type:
              if type == "directory" then
                below predicate (path + "/${name}")
              else if predicate name then
                [ (path + "/${name}") ]
              else
                [ ]
            ) (readDir path)
          );
        files =
          path:
          if builtins.isList path then
            path
          else if !pathExists path then
            throw "${toString path} does not exist"
          else if (readDir (dirOf path)).${baseNameOf path} == "directory" then
            below (_: true) path
          else
            [ path ];
      in
      {
        unions = sets: concatLists (map files sets);
        difference =
          from: without:
          let
            excluded = files without;
          in
          builtins.filter (file: !builtins.elem file excluded) (files from);
        fileFilter =
          predicate:
          below (
            name:
            predicate {
              inherit name;
              hasExt = extension: hasSuffix ".${extension}" name;
            }
          );
        toSource =
          { root, fileset }:
          derivation {
            name = "source";
            system = "any";
            builder = "a stand-in";
          }
          // {
            files = map (file: substring (stringLength (toString root) + 1) (-1) (toString file)) (
              files fileset
            );
          };
      };
  };
in
lib
