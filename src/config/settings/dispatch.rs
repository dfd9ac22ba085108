//! The settings of `dispatch` alone, which are variables without flags.

use crate::config::setting::Setting;

pub const DISPATCH_STATE: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_STATE",
    "The directory in which a dispatch stores its journal, the logs of its runs, and the repository in which it merges their work",
)
.when_unset("one for each project and branch in $XDG_STATE_HOME/descartes");
pub const DISPATCH_LISTEN: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_LISTEN",
    "The address that a dispatch listens on for its workers",
)
.when_unset("a free port of the loopback interface; after a restart the same one");
pub const DISPATCH_URL: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_URL",
    "The callback URL that a dispatch gives to its workers, if there is a proxy in front of it",
)
.when_unset("the address that the dispatch listens on");
pub const DISPATCH_START_DEADLINE: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_START_DEADLINE",
    "How long a worker of a dispatch may take to claim its task",
)
.default("5m");
pub const DISPATCH_RETRY_DELAY: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_RETRY_DELAY",
    "How long a dispatch waits before the second attempt at a task; the pause doubles with every further one",
)
.default("10s");

pub const DISPATCH_IMAGE: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_IMAGE",
    "The image of the workers' containers, by name, tag or digest; its entrypoint is descartes-worker",
)
.when_unset("no image; the engines docker and fly need one");
pub const DISPATCH_CPUS: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_CPUS",
    "How many processors a worker's container may use, for example 1.5; Fly offers only certain numbers, and the engine fly takes the next larger one",
)
.when_unset("no limit; with the engine fly the smallest number that Fly allows for the memory");
pub const DISPATCH_NETWORK: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_NETWORK",
    "The Docker network of the workers' containers; host for the network of the Docker Engine's machine",
)
.default("bridge");
pub const DOCKER_HOST: Setting = Setting::unflagged(
    "DOCKER_HOST",
    "The address of the Docker Engine: unix:///path or tcp://host:port",
)
.default("unix:///var/run/docker.sock");

pub const DISPATCH_COMMAND_START: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_COMMAND_START",
    "The command line that starts a worker, for the engine command",
)
.when_unset("no command; the engine command needs one");
pub const DISPATCH_COMMAND_LOOK: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_COMMAND_LOOK",
    "The command line that prints the state of a worker, for the engine command",
)
.when_unset("no command; the engine command needs one");
pub const DISPATCH_COMMAND_STOP: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_COMMAND_STOP",
    "The command line that ends a worker and removes what is left of it, for the engine command",
)
.when_unset("no command; the engine command needs one");

pub const FLY_API_TOKEN: Setting = Setting::unflagged(
    "FLY_API_TOKEN",
    "The token for the Machines API of Fly, for the engine fly; it must allow managing the app's machines and secrets",
)
.when_unset("no token; the engine fly needs one");
pub const FLY_FLAPS_BASE_URL: Setting = Setting::unflagged(
    "FLY_FLAPS_BASE_URL",
    "The address of the Machines API of Fly",
)
.default("https://api.machines.dev");
pub const DISPATCH_FLY_APP: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_FLY_APP",
    "The app of Fly whose machines the workers are",
)
.when_unset("FLY_APP_NAME; the engine fly needs an app");
pub const DISPATCH_FLY_REGION: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_FLY_REGION",
    "The regions of Fly for workers, the preferred one first, like fra,ams,any: the next one is used if one is full",
)
.when_unset("Fly chooses");
pub const DISPATCH_FLY_CPU_KIND: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_FLY_CPU_KIND",
    "The kind of the CPUs of the workers' machines on Fly: shared or performance",
)
.default("shared");
pub const DISPATCH_FLY_RATE: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_FLY_RATE",
    "How many requests of each kind per second the Machines API of Fly allows your organization",
)
.default("1");

pub const DISPATCH_MEMORY: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_MEMORY",
    "The memory that a worker of a dispatch may use, like 2GiB, for engines that can limit it",
)
.when_unset("no limit; with the engine fly 1GiB");
pub const DISPATCH_MAX_MEMORY: Setting = Setting::unflagged(
    "DESCARTES_DISPATCH_MAX_MEMORY",
    "The highest memory limit of a worker: an attempt after one that ran out of memory gets twice its memory limit, but at most this",
)
.default("16GiB");

/// All settings of `dispatch`, in the order of the help.
pub const DISPATCH_SETTINGS: [&Setting; 20] = [
    &DISPATCH_STATE,
    &DISPATCH_LISTEN,
    &DISPATCH_URL,
    &DISPATCH_START_DEADLINE,
    &DISPATCH_RETRY_DELAY,
    &DISPATCH_MEMORY,
    &DISPATCH_MAX_MEMORY,
    &DISPATCH_IMAGE,
    &DISPATCH_CPUS,
    &DISPATCH_NETWORK,
    &DOCKER_HOST,
    &DISPATCH_COMMAND_START,
    &DISPATCH_COMMAND_LOOK,
    &DISPATCH_COMMAND_STOP,
    &FLY_API_TOKEN,
    &FLY_FLAPS_BASE_URL,
    &DISPATCH_FLY_APP,
    &DISPATCH_FLY_REGION,
    &DISPATCH_FLY_CPU_KIND,
    &DISPATCH_FLY_RATE,
];
