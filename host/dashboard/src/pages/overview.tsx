import { lazy, Suspense } from "preact/compat";
import { useEffect } from "preact/hooks";
import type { Figures, Machine, Verb } from "../api/cove";
import { nameOf, type Container, type DiskUsage, type DockerEvent } from "../api/docker";
import { t } from "../i18n";
import { useWhile } from "../lib/hooks";
import { binary, bytes, clock, count, moment, percent, rate } from "../lib/format";
import { path } from "../router";
import { connected, containers, happened, images, usage, volumes } from "../state/engine";
import { want } from "../state/resource";
import { away, figures, machine, move, moving, step } from "../state/machine";
import { follow as followTraffic, traffic } from "../state/traffic";
import { Doing, Dot, Facts, Header, Loading, NotRunning, Problem, why } from "../ui/basics";
import { confirm } from "../ui/dialog";
import { ContainerActions, isUp, stateText } from "./containers";
import { eventText } from "./events";

const Chart = lazy(() => import("../ui/chart"));

export function Overview() {
  useEffect(() => want(containers, images, volumes, usage), []);
  const known = machine.value;
  const error = containers.error.value;
  return (
    <>
      <Header title={t("nav.overview")} note={known ? <MachineLine machine={known} /> : undefined}>
        {known && <MachineActions />}
      </Header>
      {away.value ? (
        <NotRunning />
      ) : error ? (
        <Problem error={error} again={() => containers.refresh()} />
      ) : (
        <>
          {known?.trouble && <p class="notice bad" role="alert">{why(known)}</p>}
          {known?.last_crash && Date.now() / 1000 - known.last_crash.at < 86_400 && <p class="notice bad"><span lang="en">{known.last_crash.text}</span> <a href={path("diagnose")}>{t("nav.diagnose")}</a></p>}
          {known?.lost_ports?.length ? <p class="notice">{t("machine.lostPorts", { count: known.lost_ports.length })} <a href={path("diagnose")}>{t("nav.diagnose")}</a></p> : null}
          <Load />
          <div class="halves">
            <Running />
            <Happened />
          </div>
          <div class="halves">
            <Space />
            {known && <About machine={known} />}
          </div>
        </>
      )}
    </>
  );
}

export function machineWord(state: string): string {
  switch (state) {
    case "running": return t("machine.running");
    case "stopped": return t("machine.stopped");
    case "suspended": return t("machine.suspended");
    case "starting": return t("machine.starting");
    case "stopping": return t("machine.stopping");
    case "suspending": return t("machine.suspending");
    case "unknown": return t("machine.unknown");
    case "paused": return t("machine.paused");
    case "resuming": return t("machine.resuming");
    default: return state;
  }
}

function MachineLine({ machine: known }: { machine: Machine }) {
  const told = step.value?.text;
  const more = told ? <span lang="en">{told}</span> : why(known);
  return (
    <span role="status" data-machine={known.state}>
      <Dot state={known.state} /> {t("machine.line", { name: known.machine, state: machineWord(known.state) })}
      {more && <> · {more}</>}
    </span>
  );
}

function MachineActions() {
  const busy = moving.value !== null;
  const button = (verb: Verb, icon: "play" | "stop" | "suspend" | "restart", label: string) => (
    <Doing key={verb} icon={icon} label={label} disabled={busy} run={() => move(verb)} />
  );
  // Where it does not run, the page's middle has the button.
  if (away.value) return null;
  const up = (containers.data.value ?? []).filter(isUp).length;
  const asking = (verb: "stop" | "restart", icon: "stop" | "restart", label: string) => (
    <Doing
      key={verb}
      icon={icon}
      label={label}
      disabled={busy}
      run={async () =>
        up === 0
          ? move(verb)
          : confirm({ title: `${label}?`, text: <p>{t("machine.ends", { count: count(up) })}</p>, action: label, run: () => move(verb) })
      }
    />
  );
  return <>{button("suspend", "suspend", t("machine.suspend"))}{asking("restart", "restart", t("restart"))}{asking("stop", "stop", t("machine.stop"))}</>;
}

function Load() {
  // Where the engine is of before, and does not tell it, there is no chart.
  useWhile((signal) => followTraffic(signal).catch(() => {}), []);
  const known = figures.value;
  const carried = traffic.value;
  const times = known.map(({ time }) => time);
  const last = known.at(-1)?.now;
  if (!last) return null;
  const values = (key: keyof Figures) => known.map(({ now }) => now[key] ?? null);
  return (
    <section aria-label={t("overview.load")}>
      <Suspense fallback={<Loading />}>
        <div class={`charts ${carried.length > 0 ? "" : "three"}`}>
          <Chart height={96} label={t("stats.cpu")} times={times} top={20} format={percent} series={[{ name: t("stats.cpu"), values: values("cpu") }]} />
          <Chart height={96} label={t("stats.memory")} times={times} top={64e6} format={bytes} series={[{ name: t("stats.memory"), values: values("memory") }]} />
          <Chart height={96} label={t("stats.disk")} times={times} top={1000} format={rate} series={[{ name: t("stats.read"), values: values("read") }, { name: t("stats.written"), values: values("written") }]} />
          {carried.length > 0 && (
            <Chart
              height={96}
              label={t("overview.network")}
              times={carried.map(({ time }) => time)}
              top={1000}
              format={rate}
              series={[{ name: t("stats.received"), values: carried.map(({ received }) => received) }, { name: t("stats.sent"), values: carried.map(({ sent }) => sent) }]}
            />
          )}
        </div>
      </Suspense>
    </section>
  );
}

function Running() {
  const all = containers.data.value;
  const up = (all ?? []).filter(isUp);
  return (
    <section class="block">
      <div class="block-head">
        <h2>{t("overview.running")} {all && <span class="muted">{count(up.length)}</span>}</h2>
        <a href={path("containers")}>{t("overview.all", { all: count(all?.length ?? 0) })}</a>
      </div>
      {!all ? <Loading /> : up.length === 0 ? <p class="muted quiet-empty">{t("overview.running.none")} <a href={path("tour")}>{t("overview.tour")}</a></p> : (
        <ul class="rows">{up.slice(0, 8).map((container) => <RunningRow key={container.Id} container={container} />)}</ul>
      )}
    </section>
  );
}

function RunningRow({ container }: { container: Container }) {
  const name = nameOf(container);
  return (
    <li>
      <a class="name" href={path("containers", container.Id.slice(0, 12))}><Dot state={container.State} /><span>{name}</span></a>
      <span class="muted nowrap">{stateText(container)}</span>
      <ContainerActions id={container.Id} name={name} state={container.State} />
    </li>
  );
}

function Happened() {
  const list = happened.value;
  return (
    <section class="block">
      <div class="block-head">
        <h2>{t("overview.events")}</h2>
        <span class="muted live">{connected.value ? <><Dot state="running" /> {t("overview.live")}</> : t("overview.notLive")}</span>
      </div>
      {list.length === 0 ? <p class="muted quiet-empty">{t("overview.events.none")}</p> : (
        <ol class="rows events" tabIndex={0} aria-label={t("overview.events")}>
          {list.map((event) => <EventRow key={`${event.timeNano} ${event.Action} ${event.Actor.ID}`} event={event} />)}
        </ol>
      )}
    </section>
  );
}

function EventRow({ event }: { event: DockerEvent }) {
  return (
    <li>
      <time class="muted">{clock(new Date(event.time * 1000))}</time>
      <span>{eventText(event)}</span>
    </li>
  );
}

export function spaces(told: DiskUsage): { key: "images" | "containers" | "volumes" | "cache"; size: number }[] {
  const sum = (list: readonly number[]) => list.reduce((all, one) => all + Math.max(0, one), 0);
  return [
    { key: "images", size: told.LayersSize },
    { key: "containers", size: sum((told.Containers ?? []).map(({ SizeRw }) => SizeRw ?? 0)) },
    { key: "volumes", size: sum((told.Volumes ?? []).map(({ UsageData }) => UsageData?.Size ?? 0)) },
    { key: "cache", size: sum((told.BuildCache ?? []).map(({ Size, Shared }) => (Shared ? 0 : Size))) },
  ];
}

function Space() {
  const told = usage.data.value;
  if (!told) return <section class="block"><h2>{t("overview.space")}</h2>{usage.error.value ? <Problem error={usage.error.value} again={() => usage.refresh()} /> : <Loading />}</section>;
  const parts = spaces(told);
  const all = parts.reduce((sum, { size }) => sum + size, 0);
  return (
    <section class="block">
      <div class="block-head"><h2>{t("overview.space")}</h2><span class="muted">{bytes(all)}</span></div>
      <div class="bar" aria-hidden="true">
        {parts.filter(({ size }) => size > 0).map(({ key, size }) => <span key={key} class={`part-${key}`} style={{ flexGrow: size / all }} />)}
      </div>
      <ul class="rows legend">
        {parts.map(({ key, size }) => (
          <li key={key}>
            <span class="name"><span class={`swatch part-${key}`} aria-hidden="true" />{t(`nav.${key}`)}</span>
            <span class="muted nowrap">{bytes(size)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function About({ machine: known }: { machine: Machine }) {
  const folders = known.folders?.map(({ path: folder }) => folder).join(", ");
  return (
    <section class="block">
      <div class="block-head"><h2>{t("overview.machine")}</h2><a href={path("settings")}>{t("nav.settings")}</a></div>
      <Facts
        facts={[
          [t("inspect.cpus"), known.settings ? count(known.settings.cpus) : ""],
          [t("stats.memory"), known.settings ? binary(known.settings.memory) : ""],
          [t("overview.disk"), known.settings ? t("overview.diskOf", { used: binary(known.disk_used ?? 0), size: binary(known.settings.disk) }) : ""],
          [t("overview.accelerator"), known.accelerator],
          [t("overview.engine"), known.engine_version && <span class="mono">{known.engine_version} (API {known.api_version})</span>],
          [t("inspect.started"), known.started_at ? moment(known.started_at * 1000) : ""],
          ...(folders ? ([[t("overview.folders"), <span class="mono">{folders}</span>]] as [string, preact.ComponentChildren][]) : []),
        ]}
      />
    </section>
  );
}
