/** Builds: what was built and how, the log as it is written, and where the time and the cache misses went. */

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { builds, type Build } from "../api/builds";
import { t, type Key } from "../i18n";
import { carriedOut, duration, firstMiss, heading, imageOf, instruction, otherNames, place, span, title, Trace, withPrefix, type Miss, type Step } from "../lib/build";
import { ago, bytes, count, lasted, moment, percent, short } from "../lib/format";
import { useWhile } from "../lib/hooks";
import { Lines } from "../lib/lines";
import { go, path } from "../router";
import { failed, followBuilds, known } from "../state/builds";
import { lasting } from "../state/lasting";
import { Button, Copy, Crumbs, Dot, Empty, Facts, Header, Loading, Problem, Search } from "../ui/basics";
import { LogView, TALLEST } from "../ui/logview";
import { moveAmongRows } from "../ui/rows";
import { RemoveButton } from "../ui/things";
import { announce, words as wordsOf, type Words } from "../ui/toasts";
import "../style/builds.css";

const TICK_MS = 1000;
const DOTS: Record<Build["State"], string> = { running: "starting", completed: "running", failed: "dead", canceled: "exited" };

/** The time now, as long as something is under way. */
function useTicking(running: boolean): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    set(Date.now());
    if (!running) return;
    const timer = setInterval(() => set(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, [running]);
  return now;
}

function useBuilds() {
  const [round, again] = useState(0);
  useWhile(followBuilds, [round]);
  return { all: known.value, error: failed.value, again: async () => again((before) => before + 1) };
}

export function Builds() {
  const { all, error, again } = useBuilds();
  const [words, search] = useState("");
  const list = useMemo(() => [...(all?.values() ?? [])].sort((one, other) => Date.parse(other.CreatedAt) - Date.parse(one.CreatedAt)), [all]);
  const running = list.filter(({ State }) => State === "running").length;
  const now = useTicking(running > 0);
  const asked = words.trim().toLowerCase();
  const shown = list.filter((build) => [title(build), ...otherNames(build), build.Context ?? "", build.Ref].some((text) => text.toLowerCase().includes(asked)));
  return (
    <>
      <Header title={t("nav.builds")} note={all ? t(running ? "builds.note.running" : "builds.note", { all: count(list.length), running: count(running) }) : undefined}>
        {list.length > 0 && <Search label={t("builds.search")} value={words} onInput={search} />}
      </Header>
      {error ? <Problem error={error} again={again} /> : !all ? <Loading /> : list.length === 0 ? (
        <Empty icon="builds" title={t("builds.none")} text={<>{t("builds.none.text")} <code>docker build -t app .</code></>} />
      ) : shown.length === 0 ? <Empty icon="search" title={t("search.none")} text={t("search.none.text")} /> : (
        <table class="table" onKeyDown={moveAmongRows}>
          <caption class="hidden">{t("nav.builds")}</caption>
          <thead>
            <tr>
              <th scope="col">{t("builds.what")}</th>
              <th scope="col">{t("state")}</th>
              <th scope="col" class="wide">{t("builds.when")}</th>
              <th scope="col" class="end">{t("builds.took")}</th>
              <th scope="col" class="wide end">{t("builds.cached")}</th>
              <th scope="col" class="end"><span class="hidden">{t("actions")}</span></th>
            </tr>
          </thead>
          <tbody>{shown.map((build) => <Row key={build.Ref} build={build} now={now} />)}</tbody>
        </table>
      )}
      <p class="muted foot">{t("builds.kept")} <code>docker buildx history ls</code></p>
    </>
  );
}

function Row({ build, now }: { build: Build; now: number }) {
  const under = [...otherNames(build), build.Context].filter((text) => text && text !== title(build)).join(", ");
  return (
    <tr>
      <td>
        <a class="name" data-row href={path("builds", build.Ref)}><Dot state={DOTS[build.State]} /><span>{title(build)}</span></a>
        {under && <span class="under muted build-under">{under}</span>}
      </td>
      <td class="nowrap"><State build={build} /></td>
      <td class="wide nowrap">{ago(Date.parse(build.CreatedAt) / 1000)}</td>
      <td class="end nowrap">{lasted(span(build, now))}</td>
      <td class="wide end nowrap">{t("builds.of", { cached: count(build.Steps.Cached), all: count(build.Steps.Total) })}</td>
      <td class="end"><div class="row-actions">{build.State !== "running" && <Remove build={build} bare />}</div></td>
    </tr>
  );
}

function State({ build }: { build: Build }) {
  return <span class={`build-state ${build.State}`}>{t(`builds.state.${build.State}` as Key)}</span>;
}

function Remove({ build, ...more }: { build: Build; bare?: boolean; gone?: () => void }) {
  return <RemoveButton kind="builds" name={title(build)} remove={() => builds.remove(build.Ref)} {...more} />;
}

export function BuildPage({ id }: { id: string }) {
  const { all, error, again } = useBuilds();
  const build = all?.get(id);
  const running = build?.State === "running";
  const now = useTicking(running);
  const before = useRef(running);
  useEffect(() => {
    if (before.current && build && !running) announce(t(`builds.ended.${build.State}` as Key, { name: title(build) }));
    before.current = running;
  }, [running]);
  if (error) return <Problem error={error} again={again} />;
  if (!all) return <><Crumbs page="builds" /><Header title={id.slice(0, 12)} /><Loading /></>;
  if (!build) return <Empty whole icon="builds" title={t("builds.gone")} text={t("builds.gone.text")}><a class="button primary" href={path("builds")}>{t("builds.back")}</a></Empty>;
  return (
    <>
      <Crumbs page="builds" />
      <Header title={title(build)} dot={DOTS[build.State]} note={<><State build={build} /> · {lasted(span(build, now))} · {t("builds.of", { cached: count(build.Steps.Cached), all: count(build.Steps.Total) })}</>}>
        {!running && <Remove build={build} gone={() => go("builds")} />}
      </Header>
      {build.Error && build.State === "failed" && <Failed build={build} />}
      <Inside build={build} now={now} />
      <About build={build} />
    </>
  );
}

function Failed({ build: { Error: error } }: { build: Build }) {
  const source = error?.Source;
  return (
    <section class="build-failed" role="alert">
      <h2>{t("builds.failed")}</h2>
      <p lang="en">{error?.Message}</p>
      {source && (
        <figure>
          <figcaption class="muted">{source.Filename}:{source.First}</figcaption>
          <ol class="excerpt" start={Math.max(1, source.First - 2)}>{excerpt(source).map(({ number, line, wrong }) => <li key={number} value={number} class={wrong ? "wrong" : undefined}><code>{line || " "}</code></li>)}</ol>
        </figure>
      )}
    </section>
  );
}

/** The lines that went wrong, and two around them. */
function excerpt({ Text, First, Last }: { Text: string; First: number; Last: number }) {
  return Text.split("\n")
    .map((line, index) => ({ number: index + 1, line, wrong: index + 1 >= First && index + 1 <= Last }))
    .filter(({ number }) => number >= First - 2 && number <= Last + 2);
}

/** What it has said: its steps in time, the first that was not in the cache, warnings, and the log. */
function Inside({ build, now }: { build: Build; now: number }) {
  const [version, redraw] = useState(0);
  const [over, end] = useState(false);
  const [wrong, tell] = useState<Words | null>(null);
  const [chosen, choose] = useState("");
  const held = useRef<Held>(new Held());
  useWhile(async (signal) => {
    let drawn = 0;
    const soon = () => {
      // Once for all that comes before the next picture.
      drawn ||= requestAnimationFrame(() => {
        drawn = 0;
        redraw((before) => before + 1);
      });
    };
    const read = async (wanted = signal) => {
      held.current = new Held();
      for await (const status of await builds.progress(build.Ref, wanted)) {
        held.current.add(held.current.trace.take(status));
        soon();
      }
      held.current.add(held.current.trace.end());
    };
    try {
      await lasting(read, signal, () => {});
      end(true);
    } catch (error) {
      if (!signal.aborted) tell(wordsOf(error));
    } finally {
      cancelAnimationFrame(drawn);
      if (!signal.aborted) redraw((before) => before + 1);
    }
  }, [build.Ref]);
  const { trace, lines, ofStep } = held.current;
  const steps = trace.steps;
  const step = steps.find(({ digest }) => digest === chosen);
  const empty = useMemo(() => new Lines(), []);
  return (
    <>
      <Misses build={build} steps={steps} now={now} />
      {trace.warnings.length > 0 && <Warnings trace={trace} />}
      <Waterfall build={build} trace={trace} steps={steps} now={now} chosen={chosen} choose={(digest) => choose(digest === chosen ? "" : digest)} />
      <section class="block build-log">
        <div class="block-head">
          <h2>{step ? t("builds.log.of", { name: step.name }) : t("builds.log")}</h2>
          {step && <Button kind="quiet" label={t("builds.log.all")} onClick={() => choose("")} />}
        </div>
        <LogView key={chosen} lines={step ? (ofStep.get(step.digest) ?? empty) : lines} version={version} name={step?.name ?? title(build)} ended={over || (step?.completed ?? 0) > 0}>
          {wrong && <p class="notice bad" role="alert" lang={wrong.lang}>{wrong.text} {wrong.hint}</p>}
        </LogView>
      </section>
    </>
  );
}

class Held {
  readonly trace = new Trace();
  /** Of all steps, with a line before those of another. */
  readonly lines = new Lines(TALLEST);
  readonly ofStep = new Map<string, Lines>();
  private last = "";

  add(found: ReturnType<Trace["take"]>): void {
    for (const { step, line } of found) {
      if (step !== this.last) this.lines.add({ text: `\x1b[1m${heading(this.trace.nameOf(step))}\x1b[0m`, time: line.time, stderr: false });
      this.last = step;
      this.lines.add(line);
      let own = this.ofStep.get(step);
      if (!own) this.ofStep.set(step, (own = new Lines(TALLEST)));
      own.add(line);
    }
  }
}

function Misses({ build, steps, now }: { build: Build; steps: readonly Step[]; now: number }) {
  const cacheable = steps.filter(({ name }) => carriedOut(name));
  const miss = firstMiss(steps, now);
  if (cacheable.length === 0) return null;
  if (!miss) return build.State === "running" ? null : <p class="notice good">{t("builds.miss.none")}</p>;
  return (
    <section class="build-miss">
      <h2>{t("builds.miss")}</h2>
      <p><code>{miss.step.name}</code></p>
      <p>{cost(miss, build, now)}</p>
      <p class="muted">{why(miss, build)}</p>
    </section>
  );
}

function cost(miss: Miss, build: Build, now: number): string {
  const whole = span(build, now);
  const share = percent(whole ? Math.min(100, (miss.took / whole) * 100) : 0);
  const values = { took: lasted(miss.took), whole: lasted(whole), share, after: count(miss.after) };
  return miss.after > 0 ? t("builds.miss.cost", values) : t("builds.miss.alone", values);
}

/** The engine knows that nothing it has made is the same; of what that comes, it keeps no account. These are the usual reasons. */
function why(miss: Miss, build: Build): string {
  if (build.FrontendAttrs?.["no-cache"] === "") return t("builds.why.asked");
  if (miss.verb === "COPY" || miss.verb === "ADD") return t("builds.why.files");
  if (miss.verb === "RUN") return t("builds.why.run");
  return t("builds.why.other");
}

function Warnings({ trace }: { trace: Trace }) {
  return (
    <section class="block">
      <h2>{t("builds.warnings")} <span class="muted">{count(trace.warnings.length)}</span></h2>
      <ul class="rows build-warnings">
        {trace.warnings.map(({ short: text, detail, url }, index) => (
          <li key={index}><div lang="en"><p>{text}</p><p class="muted">{detail} {/^https:\/\//.test(url) && <a href={url} target="_blank" rel="noreferrer">{url}</a>}</p></div></li>
        ))}
      </ul>
    </section>
  );
}

function Waterfall({ build, trace, steps, now, chosen, choose }: {
  build: Build;
  trace: Trace;
  steps: readonly Step[];
  now: number;
  chosen: string;
  choose: (digest: string) => void;
}) {
  const [longest, sort] = useState(false);
  const miss = firstMiss(steps, now)?.step.digest;
  const order = longest ? [...steps].sort((one, other) => duration(other, now) - duration(one, now)) : steps;
  return (
    <section class="block">
      <div class="block-head">
        <h2>{t("builds.time")} <span class="muted">{t("builds.time.whole", { span: lasted(span(build, now)) })}</span></h2>
        <div class="choice" role="group" aria-label={t("builds.order")}>
          <button type="button" aria-pressed={!longest} onClick={() => sort(false)}>{t("builds.order.time")}</button>
          <button type="button" aria-pressed={longest} onClick={() => sort(true)}>{t("builds.order.longest")}</button>
        </div>
      </div>
      {steps.length === 0 ? <p class="muted quiet-empty">{t("builds.steps.none")}</p> : (
        <ol class="waterfall">
          {order.map((step) => {
            const { from, share } = place(step, build, now);
            const doing = step.completed ? null : trace.doing(step.digest);
            const kind = step.error ? "wrong" : !step.completed ? "running" : step.cached ? "cached" : step.digest === miss ? "miss" : "ran";
            return (
              <li key={step.digest} class={kind}>
                <button type="button" aria-pressed={step.digest === chosen} onClick={() => choose(step.digest)} title={step.name}>
                  <span class="step-name"><Name name={step.name} /></span>
                  {(kind !== "ran" || doing) && (
                    <span class="step-kind">
                      {kind !== "ran" && t(`builds.step.${kind}` as Key)}
                      {doing && ` ${doing.name}${doing.total ? ` ${percent((doing.current / doing.total) * 100)}` : doing.current ? ` ${bytes(doing.current)}` : ""}`}
                    </span>
                  )}
                  <span class="step-bar" aria-hidden="true"><span style={{ left: `${from * 100}%`, width: `${share * 100}%` }} /></span>
                  <span class="step-time">{lasted(duration(step, now))}</span>
                  <span class="step-share">{percent(share * 100)}</span>
                </button>
              </li>
            );
          })}
        </ol>
      )}
      <p class="muted small">{t("builds.time.text")}</p>
    </section>
  );
}

function Name({ name }: { name: string }) {
  const told = instruction(name);
  return told ? <><span class="muted">{name.slice(0, name.length - told.text.length)}</span>{told.text}</> : <>{name}</>;
}

function About({ build }: { build: Build }) {
  const attributes = build.FrontendAttrs ?? {};
  const image = imageOf(build);
  const facts: [string, ComponentChildren][] = [
    [t("builds.started"), moment(build.CreatedAt)],
    [t("builds.context"), attributes.context ?? build.Context],
    [t("builds.dockerfile"), attributes.filename],
    [t("builds.target"), attributes.target],
    [t("builds.platform"), attributes.platform],
    [t("image"), image && <a class="mono" href={path("images", short(image))}>{short(image)}</a>],
    [t("builds.ref"), <><span class="mono">{build.Ref.slice(0, 12)}</span> <Copy text={build.Ref} /></>],
  ];
  return (
    <>
      <section class="block">
        <h2>{t("builds.about")}</h2>
        <Facts facts={facts} />
      </section>
      {([["builds.args", withPrefix(build, "build-arg:")], ["labels", withPrefix(build, "label:")]] as [Key, [string, string][]][]).map(([key, pairs]) => pairs.length > 0 && (
        <section class="block" key={key}>
          <h2>{t(key)} <span class="muted">{count(pairs.length)}</span></h2>
          <table class="table pairs">
            <caption class="hidden">{t(key)}</caption>
            <thead class="hidden"><tr><th scope="col">{t("name")}</th><th scope="col">{t("value")}</th></tr></thead>
            <tbody>{pairs.map(([name, value]) => <tr key={name}><td class="mono">{name}</td><td class="mono">{value}</td></tr>)}</tbody>
          </table>
        </section>
      ))}
    </>
  );
}
