//! The benchmark's own programs in the kernel, and test runs of them.

#[path = "../../ebpf/src/layout.rs"]
#[allow(dead_code, reason = "some of it only the programs in the kernel use")]
pub(crate) mod layout;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, Map, MapData, MapError},
    programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use rustix::{
    process::setpriority_process,
    thread::{CpuSet, gettid, sched_setaffinity},
};

use self::layout::{Game, Plan, Shot, Talk, Template, Wanted};

// SAFETY: bytemuck's `Pod` holds for the types: plain data without padding.
unsafe impl Pod for Shot {}
// SAFETY: as above.
unsafe impl Pod for Wanted {}
// SAFETY: as above.
unsafe impl Pod for Plan {}
// SAFETY: as above.
unsafe impl Pod for Template {}
// SAFETY: as above.
unsafe impl Pod for Talk {}
// SAFETY: as above.
unsafe impl Pod for Game {}

/// Loads the object and all its programs.
pub(crate) fn load(object: &[u8]) -> anyhow::Result<Ebpf> {
    load_by(&mut EbpfLoader::new(), object)
}

/// The same by a loader that knows more.
pub(crate) fn load_by(loader: &mut EbpfLoader<'_>, object: &[u8]) -> anyhow::Result<Ebpf> {
    let mut ebpf = loader
        .btf(None)
        .load(object)
        .context("cannot load the benchmark's programs")?;
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => continue,
        }
        .with_context(|| format!("the kernel refuses the benchmark's program {name}"))?;
    }
    Ok(ebpf)
}

/// Takes a map out of the loaded object.
pub(crate) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &str,
) -> anyhow::Result<T> {
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the object has no map {name}"))?;
    Ok(T::try_from(map)?)
}

/// The one element of a map that has one.
pub(crate) struct Cell<T: Pod>(Array<MapData, T>);

impl<T: Pod> Cell<T> {
    pub(crate) fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Self> {
        Ok(Self(take(ebpf, name)?))
    }

    pub(crate) fn set(&mut self, value: T) -> anyhow::Result<()> {
        Ok(self.0.set(0, value, 0)?)
    }

    pub(crate) fn get(&self) -> anyhow::Result<T> {
        Ok(self.0.get(&0, 0)?)
    }
}

/// A classifier of a loaded object.
pub(crate) fn classifier<'e>(ebpf: &'e Ebpf, name: &str) -> anyhow::Result<&'e SchedClassifier> {
    let program = ebpf
        .program(name)
        .with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// An XDP program of a loaded object, to be run.
pub(crate) fn loaded_xdp<'e>(ebpf: &'e Ebpf, name: &str) -> anyhow::Result<&'e Xdp> {
    let program = ebpf
        .program(name)
        .with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// An XDP program of a loaded object, to be attached.
pub(crate) fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> anyhow::Result<&'e mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// Opens a pinned map.
pub(crate) fn pinned<T: TryFrom<Map, Error = MapError>>(
    folder: &Path,
    name: &str,
    kind: fn(MapData) -> Map,
) -> anyhow::Result<T> {
    let path = folder.join("maps").join(name);
    let data = MapData::from_pin(&path)
        .with_context(|| format!("cannot open the pinned map {}", path.display()))?;
    Ok(T::try_from(kind(data))?)
}

/// What a test run of a TC program came to.
pub(crate) struct Ran {
    /// The last turn's verdict.
    pub(crate) verdict: i32,
    /// How long all turns took.
    pub(crate) took: Duration,
}

/// Size of `struct __sk_buff` (linux/bpf.h, Linux 5.18), and where the interface is in it.
const SKB: usize = 192;
const SKB_IFINDEX: usize = 40;

/// Runs a classifier on a frame that came in at an interface of this namespace, many times.
pub(crate) fn run_tc(
    program: &SchedClassifier,
    ifindex: u32,
    frame: &[u8],
    turns: u32,
) -> anyhow::Result<Ran> {
    let mut context = [0; SKB];
    context[SKB_IFINDEX..SKB_IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    let mut context_out = context;
    let start = Instant::now();
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(&context),
        ctx_out: Some(&mut context_out),
        repeat: turns,
        ..TestRunOptions::default()
    });
    let took = start.elapsed();
    let result = result.context("the kernel refuses a test run")?;
    Ok(Ran {
        verdict: result.return_value.cast_signed(),
        took,
    })
}

/// Runs an XDP program on a frame, many times.
///
/// The duration is the kernel's own, in whole nanoseconds a turn: to begin and to end such a run it
/// rewrites its own code, which takes longer than the run.
pub(crate) fn run_xdp(program: &Xdp, frame: &[u8], turns: u32) -> anyhow::Result<Ran> {
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            repeat: turns,
            ..TestRunOptions::default()
        })
        .context("the kernel refuses a test run")?;
    Ok(Ran {
        verdict: result.return_value.cast_signed(),
        took: result.duration * turns,
    })
}

/// The machine's CPUs: the number of the last one, which has the least to do.
pub(crate) fn last_cpu() -> anyhow::Result<usize> {
    Ok(std::thread::available_parallelism()?.get() - 1)
}

/// Keeps this thread on one CPU, before all others there: what else the machine does shall not be
/// measured.
pub(crate) fn stay_on_cpu(cpu: usize) -> anyhow::Result<()> {
    stay_on(cpu)?;
    go_first()
}

/// Keeps this thread, and what it starts, on one CPU.
fn stay_on(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// Starts processes on one CPU, which they do not leave. On a thread of its own: what it starts inherits
/// its CPU, and nobody else does.
pub(crate) fn on_cpu<T: Send>(
    start: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let cpu = last_cpu()?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            stay_on(cpu)?;
            start()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Lets this thread run before all others.
pub(crate) fn go_first() -> anyhow::Result<()> {
    setpriority_process(Some(gettid()), -20).context("cannot go before other threads")
}
