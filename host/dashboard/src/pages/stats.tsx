/** What a container takes, as the engine tells it each second. */

import { useState } from "preact/hooks";
import { docker, type Stats as Told } from "../api/docker";
import { t } from "../i18n";
import { bytes, count, percent, rate } from "../lib/format";
import { useWhile } from "../lib/hooks";
import { Doing, Empty, Loading } from "../ui/basics";
import Chart from "../ui/chart";
import { failed } from "../ui/toasts";

const KEPT = 300;

export interface Point {
  readonly time: number;
  readonly cpu: number | null;
  readonly memory: number;
  readonly limit: number;
  readonly received: number | null;
  readonly sent: number | null;
  readonly readBytes: number | null;
  readonly written: number | null;
  readonly pids: number;
}

/** The figures of one telling; rates need the one before. CPU as docker counts it: 100% is one processor. */
export function point(told: Told, before: Told | null): Point {
  const { cpu_stats: cpu, precpu_stats: pre, memory_stats: memory } = told;
  const used = cpu.cpu_usage.total_usage - pre.cpu_usage.total_usage;
  const system = (cpu.system_cpu_usage ?? 0) - (pre.system_cpu_usage ?? 0);
  const span = before ? (Date.parse(told.read) - Date.parse(before.read)) / 1000 : 0;
  const per = (now: number, then: number) => (span > 0 ? Math.max(0, (now - then) / span) : null);
  const traffic = (one: Told, key: "rx_bytes" | "tx_bytes") => Object.values(one.networks ?? {}).reduce((sum, each) => sum + each[key], 0);
  const disk = (one: Told, op: string) =>
    (one.blkio_stats?.io_service_bytes_recursive ?? []).reduce((sum, each) => sum + (each.op.toLowerCase() === op ? each.value : 0), 0);
  const flows = (key: "rx_bytes" | "tx_bytes") => before && per(traffic(told, key), traffic(before, key));
  const moves = (op: string) => before && per(disk(told, op), disk(before, op));
  return {
    time: Date.parse(told.read) / 1000,
    cpu: pre.system_cpu_usage && system > 0 ? (used / system) * (cpu.online_cpus ?? 1) * 100 : null,
    memory: Math.max(0, (memory.usage ?? 0) - (memory.stats?.inactive_file ?? 0)),
    limit: memory.limit ?? 0,
    received: flows("rx_bytes"),
    sent: flows("tx_bytes"),
    readBytes: moves("read"),
    written: moves("write"),
    pids: told.pids_stats?.current ?? 0,
  };
}

export default function Stats({ id, running }: { id: string; running: boolean }) {
  const [points, set] = useState<readonly Point[]>([]);
  useWhile(async (signal) => {
    if (!running) return;
    try {
      let before: Told | null = null;
      for await (const told of await docker.stats(id, signal)) {
        if (Date.parse(told.read) <= 0) continue; // a container that has ended
        const next = point(told, before);
        before = told;
        set((all) => [...all.slice(1 - KEPT), next]);
      }
    } catch (error) {
      if (!signal.aborted) failed(error);
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
