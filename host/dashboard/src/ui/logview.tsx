/** Lines of a log: only those in sight are in the page; searched, followed and downloaded. */

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { pieces, plain } from "../lib/ansi";
import { count } from "../lib/format";
import type { Line, Lines } from "../lib/lines";
import { save } from "../lib/save";
import { useRemembered } from "../lib/hooks";
import { Button, Check, Search } from "./basics";

const HEIGHT = 20;
const MORE = 20;
/** A browser draws no element of any height: older lines than these go. */
export const TALLEST = 400_000;

export function LogView({ lines, version, name, ended, children }: {
  lines: Lines;
  /** Another one whenever there are more lines. */
  version: number;
  name: string;
  /** There will be no more. */
  ended: boolean;
  /** What is to be said below. */
  children?: ComponentChildren;
}) {
  const [follow, setFollow] = useState(true);
  const [words, setWords] = useState("");
  const [only, setOnly] = useState(false);
  const [times, setTimes] = useRemembered("times");
  const [current, setCurrent] = useState(-1);
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const asked = words.trim().toLowerCase();

  // What matches is looked for in new lines only, as long as the words are the same.
  const found = useRef<{ asked: string; of: Lines; next: number; numbers: number[] }>({ asked: "", of: lines, next: 0, numbers: [] });
  const numbers = useMemo(() => {
    if (!asked) return [];
    if (found.current.asked !== asked || found.current.of !== lines) found.current = { asked, of: lines, next: lines.first, numbers: [] };
    const held = found.current;
    for (const number of lines.matching(asked, held.next)) held.numbers.push(number);
    held.next = lines.end;
    const gone = held.numbers.findIndex((number) => number >= lines.first);
    held.numbers.splice(0, gone < 0 ? held.numbers.length : gone);
    return held.numbers.slice();
  }, [asked, version, lines]);

  const filtered = only && asked !== "";
  const total = filtered ? numbers.length : lines.length;
  const numberAt = (row: number) => (filtered ? numbers[row]! : lines.first + row);

  useEffect(() => {
    const element = box.current!;
    const look = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const size = new ResizeObserver(look);
    size.observe(element);
    return () => size.disconnect();
  }, []);

  useEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [version, follow, filtered]);

  const scrolled = () => {
    const element = box.current!;
    setView({ top: element.scrollTop, height: element.clientHeight });
    const atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - HEIGHT;
    if (!atEnd && element.scrollTop < view.top) setFollow(false);
    else if (atEnd) setFollow(true);
  };

  const step = (by: number) => {
    if (numbers.length === 0) return;
    const here = numbers.indexOf(current);
    const next = here < 0 ? (by > 0 ? 0 : numbers.length - 1) : (here + by + numbers.length) % numbers.length;
    const number = numbers[next]!;
    setCurrent(number);
    setFollow(false);
    const row = filtered ? next : number - lines.first;
    box.current!.scrollTop = Math.max(0, row * HEIGHT - view.height / 2);
  };

  const from = Math.max(0, Math.floor(view.top / HEIGHT) - MORE);
  const to = Math.min(total, Math.ceil((view.top + view.height) / HEIGHT) + MORE);
  const rows = [];
  for (let row = from; row < to; row += 1) {
    const number = numberAt(row);
    const line = lines.at(number);
    if (line) rows.push(<LogLine key={number} line={line} asked={asked} times={times} current={number === current} />);
  }

  return (
    <section class="logs" aria-label={t("tab.logs")}>
      <div class="toolbar">
        <div
          class="search-group"
          onKeyDown={(event) => {
            // Its buttons have an Enter of their own, and so has a method of input that is composing.
            if (event.key !== "Enter" || event.isComposing || !(event.target as HTMLElement).matches("[data-search]")) return;
            event.preventDefault();
            step(event.shiftKey ? -1 : 1);
          }}
        >
          <Search label={t("logs.search")} value={words} onInput={(value) => { setWords(value); setCurrent(-1); }} />
          {asked && (
            <>
              <span class="muted nowrap" role="status">
                {current >= 0 ? t("logs.at", { at: count(numbers.indexOf(current) + 1), all: count(numbers.length) }) : t("logs.found", { all: count(numbers.length) })}
              </span>
              <Button bare kind="quiet" icon="up" label={t("logs.before")} onClick={() => step(-1)} />
              <Button bare kind="quiet" icon="down" label={t("logs.next")} onClick={() => step(1)} />
              <Check label={t("logs.only")} checked={only} onChange={setOnly} />
            </>
          )}
        </div>
        <span class="muted nowrap wide-inline">{t("logs.lines", { all: count(lines.length) })}</span>
        <Check label={t("logs.times")} checked={times} onChange={setTimes} />
        <Button icon="down" kind={follow ? "plain" : "primary"} pressed={follow} label={t("logs.follow")} onClick={() => setFollow(!follow)} />
        <Button bare kind="quiet" icon="download" label={t("logs.download")} onClick={() => download(name, lines)} />
      </div>
      <div class="log" ref={box} onScroll={scrolled} tabIndex={0} role="region" aria-label={t("logs.of", { name })}>
        {total === 0 ? (
          <p class="log-note">{filtered ? t("search.none") : ended ? t("logs.none") : t("logs.waiting")}</p>
        ) : (
          <div class="log-all" style={{ height: total * HEIGHT }}>
            <div class="log-seen" style={{ transform: `translateY(${from * HEIGHT}px)` }}>{rows}</div>
          </div>
        )}
      </div>
      {children}
    </section>
  );
}

function LogLine({ line, asked, times, current }: { line: Line; asked: string; times: boolean; current: boolean }) {
  return (
    <div class={`log-line ${line.stderr ? "stderr" : ""} ${current ? "current" : ""}`}>
      {times && <time>{line.time.slice(11, 23)}</time>}
      <span>{asked ? marked(plain(line.text), asked) : pieces(line.text).map(({ text, style }, index) => (style ? <span key={index} class={style}>{text}</span> : text))}</span>
    </div>
  );
}

function marked(text: string, asked: string) {
  const lower = text.toLowerCase();
  const parts = [];
  let at = 0;
  for (let next = lower.indexOf(asked); next >= 0; next = lower.indexOf(asked, at)) {
    parts.push(text.slice(at, next), <mark key={next}>{text.slice(next, next + asked.length)}</mark>);
    at = next + asked.length;
  }
  parts.push(text.slice(at));
  return parts;
}

function download(name: string, lines: Lines): void {
  const parts: string[] = [];
  for (let number = lines.first; number < lines.end; number += 1) parts.push(`${plain(lines.at(number)!.text)}\n`);
  save(new Blob(parts, { type: "text/plain" }), `${name}.log`);
}
