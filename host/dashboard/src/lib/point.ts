/** What a container takes, from what the engine tells of it. */

import type { Stats as Told } from "../api/docker";

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
