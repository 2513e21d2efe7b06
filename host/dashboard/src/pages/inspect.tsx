/** What a container is made of: the facts first, and the whole as the engine tells it. */

import { useState } from "preact/hooks";
import type { ContainerDetail } from "../api/docker";
import { t } from "../i18n";
import { bytes, moment, short } from "../lib/format";
import { path } from "../router";
import { Choice, Copy, Facts } from "../ui/basics";
import { Json } from "../ui/json";

export function Inspect({ detail }: { detail: ContainerDetail }) {
  const [view, set] = useState<"facts" | "json">("facts");
  return (
    <section class="stack" aria-label={t("tab.inspect")}>
      <div class="toolbar">
        <Choice label={t("inspect.view")} value={view} onChange={set} options={[{ value: "facts", text: t("inspect.facts") }, { value: "json", text: "JSON" }]} />
        <Copy text={JSON.stringify(detail, null, 2)} label={t("inspect.copy")} />
      </div>
      {view === "json" ? <Json value={detail} /> : <Known detail={detail} />}
    </section>
  );
}

function Known({ detail }: { detail: ContainerDetail }) {
  const { Config, HostConfig, State, NetworkSettings } = detail;
  const ports = Object.entries(NetworkSettings.Ports ?? {});
  const policy = HostConfig.RestartPolicy.Name || "no";
  return (
    <>
      <Facts
        facts={[
          [t("id"), <><span class="mono">{short(detail.Id)}</span> <Copy text={detail.Id} /></>],
          [t("image"), <a href={path("images", short(detail.Image))} class="mono">{Config.Image}</a>],
          [t("command"), <code>{[detail.Path, ...detail.Args].join(" ")}</code>],
          [t("created"), moment(detail.Created)],
          [t("inspect.started"), moment(State.StartedAt)],
          ...(State.Running ? [] : ([[t("inspect.exit"), String(State.ExitCode)]] as [string, string][])),
          ...(State.Health ? ([[t("inspect.health"), State.Health.Status]] as [string, string][]) : []),
          [t("inspect.restart"), detail.RestartCount ? `${policy} (${detail.RestartCount})` : policy],
          [t("inspect.user"), Config.User || "root"],
          [t("inspect.folder"), <code>{Config.WorkingDir || "/"}</code>],
          [t("inspect.memory"), HostConfig.Memory ? bytes(HostConfig.Memory) : t("inspect.unlimited")],
          [t("inspect.cpus"), HostConfig.NanoCpus ? String(HostConfig.NanoCpus / 1e9) : t("inspect.unlimited")],
        ]}
      />
      <List title={t("ports")} head={[t("inspect.inside"), t("inspect.outside")]} rows={ports.map(([inside, bound]) => [inside, bound?.map(({ HostIp, HostPort }) => `${HostIp}:${HostPort}`).join(", ") ?? "–"])} />
      <List title={t("inspect.mounts")} head={[t("inspect.target"), t("inspect.source")]} rows={detail.Mounts.map((mount) => [mount.RW ? mount.Destination : `${mount.Destination} (ro)`, mount.Name ?? mount.Source])} />
      <List title={t("nav.networks")} head={[t("name"), t("inspect.address")]} rows={Object.entries(NetworkSettings.Networks).map(([name, { IPAddress, GlobalIPv6Address }]) => [name, [IPAddress, GlobalIPv6Address].filter(Boolean).join(", ") || "–"])} />
      <List title={t("environment")} head={[t("name"), t("value")]} rows={(Config.Env ?? []).map((pair) => parted(pair))} />
      <List title={t("labels")} head={[t("name"), t("value")]} rows={Object.entries(Config.Labels ?? {})} />
    </>
  );
}

function parted(pair: string): string[] {
  const equals = pair.indexOf("=");
  return equals < 0 ? [pair, ""] : [pair.slice(0, equals), pair.slice(equals + 1)];
}

export function List({ title, head, rows }: { title: string; head: string[]; rows: string[][] }) {
  if (rows.length === 0) return null;
  return (
    <section class="block">
      <h2>{title}</h2>
      <table class="table pairs">
        <caption class="hidden">{title}</caption>
        <thead class="hidden"><tr>{head.map((text) => <th key={text} scope="col">{text}</th>)}</tr></thead>
        <tbody>{rows.map((row, index) => <tr key={index}>{row.map((cell, column) => <td key={column} class="mono">{cell}</td>)}</tr>)}</tbody>
      </table>
    </section>
  );
}
