//! `cargo xtask demo`: the main job, told step by step.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use harness::site::{Running, Site};
use harness::wait;

use crate::{build, packages};

#[derive(Args)]
pub(crate) struct Flags {
    /// Leave everything running at the end and say how to look around, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

/// Prints each step as it begins and its time when it ends.
struct Teller {
    start: Instant,
    step: Instant,
    open: bool,
}

impl Teller {
    fn new() -> Teller {
        Teller { start: wait::now(), step: wait::now(), open: false }
    }

    fn step(&mut self, text: &str) {
        self.end();
        print!("  {text} ... ");
        let _ = std::io::stdout().flush();
        self.step = wait::now();
        self.open = true;
    }

    fn end(&mut self) {
        if self.open {
            println!("{:.1} s", self.step.elapsed().as_secs_f64());
            self.open = false;
        }
    }
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    println!("Causeway demo: a pod and a device from kubectl to an edge node, and a link that fails.\n");
    if !rustix::process::geteuid().is_root() {
        bail!("the demo runs containers and needs root");
    }
    let mut tell = Teller::new();
    tell.step("looking for the Debian packages it needs");
    packages::ensure()?;
    tell.step("building the programs, not optimised (the first time takes minutes)");
    let programs = build::demo()?;
    tell.end();
    let mut site = Site::start(&programs, true, |text| tell.step(text)).context("starting the site")?;
    let shown = show(&mut site, &mut tell);
    tell.end();
    if shown.is_err() {
        println!("\nLogs: {}", site.kept_logs().display());
    }
    shown?;
    println!("\nAll of it in {:.0} s.", tell.start.elapsed().as_secs_f64());
    if flags.keep {
        look_around(&site)?;
    }
    Ok(())
}

/// (what, what was seen)
type Table = Vec<(&'static str, String)>;

fn show(site: &mut Site, tell: &mut Teller) -> Result<()> {
    let mut table = Table::new();
    tell.step("waiting for the node to be Ready");
    site.node_ready()?;
    tell.step("kubectl apply: a pod of two containers, a ConfigMap, a Secret");
    site.apply_greeter()?;
    let before = site.pod_running()?;
    table.push(("pod greeter on edge-1", describe(&before)));
    table.push(("its log, read from disk", message_of(&site.log_line("badge 4711")?)));
    tell.step("starting the thermometer and applying its model and device");
    site.start_thermometer()?;
    site.apply_thermometer()?;
    table.push(("reported temperature", site.wait_reported("temperature", |value| !value.is_empty())?));
    tell.step("kubectl: desired threshold 25");
    site.set_threshold("25")?;
    table.push(("reported threshold", site.wait_reported("threshold", |value| value.starts_with("25"))?));
    tell.end();
    print_table("What the cloud and the edge say", &table);
    cut_and_heal(site, tell, &before)
}

fn cut_and_heal(site: &mut Site, tell: &mut Teller, before: &[Running]) -> Result<()> {
    let mut table = Table::new();
    tell.step("cutting the link");
    site.relay.cut();
    tell.step("changing the ConfigMap in the cloud meanwhile");
    site.set_greeting("hello again")?;
    tell.step("killing a container: it must come back while cut off");
    let victim =
        before.iter().find(|container| container.name == "greeter").context("no container greeter")?;
    let lines = site.log_line("hello from the cloud")?;
    site.kill_container(&victim.id)?;
    let count = 2; // two containers, one sandbox: three tasks when both are back
    wait::for_true("the killed container runs again", Duration::from_secs(60), || {
        let tasks = site.running_tasks()?;
        Ok(tasks.len() > count && !tasks.iter().any(|task| victim.id.ends_with(task.as_str())))
    })?;
    table.push((
        "while cut off, after the kill",
        format!("greeter runs again, still saying {:?}", message_of(&lines)),
    ));
    tell.step("restoring the link");
    site.relay.heal();
    let line = site.log_line("hello again")?;
    table.push(("log after the link is back", message_of(&line)));
    tell.step("waiting until the cloud knows of the restart");
    let after = wait::until("restart seen by the API", Duration::from_secs(60), || {
        let running = site.pod_running()?;
        Ok(running.iter().any(|container| container.restarts > 0).then_some(running))
    })?;
    table.push(("pod greeter, as kubectl sees it", describe(&after)));
    tell.end();
    print_table("After the cut", &table);
    Ok(())
}

fn describe(containers: &[Running]) -> String {
    let each =
        containers.iter().map(|container| format!("{} (restarts {})", container.name, container.restarts));
    format!("Running: {}", each.collect::<Vec<_>>().join(", "))
}

/// A log line without its time, stream and tag.
fn message_of(line: &str) -> String {
    line.splitn(4, ' ').nth(3).unwrap_or(line).to_owned()
}

fn print_table(title: &str, rows: &Table) {
    let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    println!("\n{title}");
    for (what, seen) in rows {
        println!("  {what:<width$}   {seen}");
    }
    println!();
}

fn look_around(site: &Site) -> Result<()> {
    println!("\nStill running. Look around:");
    println!(
        "  kubectl --kubeconfig {} get nodes,pods,devices,devicestatuses -o wide",
        site.kubectl().kubeconfig.display()
    );
    println!("  mosquitto_sub -h 127.0.0.1 -p {} -t '$hw/events/device/#' -v", site.edge.mqtt_port);
    println!("  sqlite3 {} 'select key, version from meta'", site.edge.database().display());
    println!("  tail -f {}", site.edge.log().display());
    println!("Ctrl-C stops it all.");
    site.wait_for_interrupt()
}
