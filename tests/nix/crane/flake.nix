{
  description = "A stand-in for crane: records the calls of functions";

  outputs =
    { self }:
    {
      mkLib =
        pkgs:
        pkgs.lib.genAttrs [
          "buildDepsOnly"
          "buildPackage"
          "cargoAudit"
          "cargoClippy"
          "cargoDeny"
          "cargoDoc"
          "cargoFmt"
          "cargoNextest"
          "devShell"
        ] pkgs.record;
    };
}
