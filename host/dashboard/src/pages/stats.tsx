/** What a container takes, as the engine tells it each second. */

import { useState } from "preact/hooks";
import { docker, type Stats as Sample } from "../api/docker";
import { point, type Point } from "../lib/point";
import { t } from "../i18n";
import { bytes, count, percent, rate } from "../lib/format";
import { useWhile } from "../lib/hooks";
import { lasting } from "../state/lasting";
import { Doing, Empty, Loading } from "../ui/basics";
import Chart from "../ui/chart";
import { failed } from "../ui/toasts";

const KEPT = 300;

export default function Stats({ id, running }: { id: string; running: boolean }) {
  const [points, set] = useState<readonly Point[]>([]);
  useWhile(async (wanted) => {
    if (!running) return;
    const read = async (signal: AbortSignal) => {
      let before: Sample | null = null;
      for await (const sample of await docker.stats(id, signal)) {
        if (Date.parse(sample.read) <= 0) continue; // a container that has ended
        const next = point(sample, before);
        before = sample;
        set((all) => [...all.slice(1 - KEPT), next]);
      }
    };
    try {
      await lasting(read, wanted, () => {});
    } catch (error) {
      if (!wanted.aborted) failed(error);
    }
  }, [id, running]);

  if (!running) return <Empty icon="diagnose" title={t("stats.stopped")} text={t("stats.stopped.text")} />;
  const last = points.at(-1);
  if (!last) return <Loading />;
  const times = points.map(({ time }) => time);
  const pick = (key: keyof Point) => points.map((one) => one[key]);
  return (
    <section class="stack" aria-label={t("tab.stats")}>
      <div class="charts">
        <Chart label={t("stats.cpu")} times={times} top={5} format={percent} series={[{ name: t("stats.cpu"), values: pick("cpu") }]} />
        <Chart label={last.limit ? t("stats.memoryOf", { limit: bytes(last.limit) }) : t("stats.memory")} times={times} top={8e6} format={bytes} series={[{ name: t("stats.memory"), values: pick("memory") }]} />
        <Chart label={t("stats.network")} times={times} top={1000} format={rate} series={[{ name: t("stats.received"), values: pick("received") }, { name: t("stats.sent"), values: pick("sent") }]} />
        <Chart label={t("stats.disk")} times={times} top={1000} format={rate} series={[{ name: t("stats.read"), values: pick("readBytes") }, { name: t("stats.written"), values: pick("written") }]} />
      </div>
      <Processes id={id} pids={last.pids} />
    </section>
  );
}

function Processes({ id, pids }: { id: string; pids: number }) {
  const [list, set] = useState<{ Titles: string[]; Processes: string[][] | null } | null>(null);
  return (
    <section class="block">
      <div class="block-head">
        <h2>{t("stats.processes")} <span class="muted">{count(pids)}</span></h2>
        <Doing icon="restart" label={list ? t("stats.processes.again") : t("stats.processes.show")} run={async () => set(await docker.top(id))} />
      </div>
      {list && (
        <div class="scroll" tabIndex={0} role="region" aria-label={t("stats.processes")}>
          <table class="table mono small">
            <thead><tr>{list.Titles.map((title) => <th key={title} scope="col">{title}</th>)}</tr></thead>
            <tbody>{(list.Processes ?? []).map((words, index) => <tr key={index}>{words.map((word, column) => <td key={column}>{word}</td>)}</tr>)}</tbody>
          </table>
        </div>
      )}
    </section>
  );
}
