/** A container's log as it is written: bounded in memory, and only the lines in sight are in the page. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { docker } from "../api/docker";
import { t } from "../i18n";
import { Lines } from "../lib/lines";
import { LogReader, Seen } from "../lib/logstream";
import { lasting } from "../state/lasting";
import { LogView, TALLEST } from "../ui/logview";
import { words as wordsOf, type Words } from "../ui/toasts";

/** How many lines are asked for at first: a log may be larger than what a page should hold. */
const NEWEST = 200_000;

export function Logs({ id, name, tty }: { id: string; name: string; tty: boolean }) {
  const lines = useMemo(() => new Lines(TALLEST), [id]);
  const [version, redraw] = useState(0);
  /** "live", "cut" (it goes on when there is a connection again) or "ended". */
  const [state, be] = useState<"live" | "cut" | "ended">("live");
  const [wrong, tell] = useState<Words | null>(null);

  useEffect(() => {
    const controller = new AbortController();
    const seen = new Seen();
    let drawn = 0;
    const soon = () => {
      // Once for all that comes before the next picture.
      drawn ||= requestAnimationFrame(() => {
        drawn = 0;
        redraw((before) => before + 1);
      });
    };
    void (async () => {
      const read = async (signal: AbortSignal) => {
        const since = seen.since();
        const reader = new LogReader(tty);
        const body = await docker.logs(id, { follow: true, timestamps: true, tail: NEWEST, ...(since && { since }) }, signal);
        be("live");
        const source = body.getReader();
        for (;;) {
          const { value, done } = await source.read();
          for (const line of seen.fresh(done ? reader.end() : reader.read(value))) lines.add(line);
          soon();
          if (done) break;
        }
      };
      try {
        await lasting(read, controller.signal, () => be("cut"));
        if (!controller.signal.aborted) be("ended");
      } catch (error) {
        if (!controller.signal.aborted) tell(wordsOf(error));
      }
    })();
    return () => {
      controller.abort();
      cancelAnimationFrame(drawn);
    };
  }, [id]);

  return (
    <LogView lines={lines} version={version} name={name} ended={state === "ended"}>
      {wrong && <p class="notice bad" role="alert" lang={wrong.lang}>{wrong.text} {wrong.hint}</p>}
      {state === "cut" && !wrong && <p class="muted log-end" role="status">{t("logs.cut")}</p>}
      {state === "ended" && lines.length > 0 && <p class="muted log-end">{t("logs.ended")}</p>}
    </LogView>
  );
}
