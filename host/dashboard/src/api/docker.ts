/** Docker's API, as much of it as the page uses. */

import { jsonLines } from "../lib/streams";
import { ask, Failure, json, listen, query, sending } from "./http";

/** Below the page's own address, whose first part is secret. */
export const DOCKER = "docker";

export interface Port {
  IP?: string;
  PrivatePort: number;
  PublicPort?: number;
  Type: string;
}

export type ContainerState = "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead";

export interface Container {
  Id: string;
  Names: string[];
  Image: string;
  ImageID: string;
  Command: string;
  Created: number;
  State: ContainerState;
  Status: string;
  Ports: Port[];
  Labels: Record<string, string>;
  Mounts: { Type: string; Name?: string; Source: string; Destination: string; RW: boolean }[];
  NetworkSettings?: { Networks: Record<string, { NetworkID: string; IPAddress: string }> };
}

export interface ContainerDetail {
  Id: string;
  Name: string;
  Created: string;
  Image: string;
  Path: string;
  Args: string[];
  RestartCount: number;
  State: {
    Status: ContainerState;
    Running: boolean;
    ExitCode: number;
    Error: string;
    OOMKilled: boolean;
    StartedAt: string;
    FinishedAt: string;
    Health?: { Status: string; FailingStreak: number; Log: { Output: string; ExitCode: number }[] | null };
  };
  Config: {
    Image: string;
    Tty: boolean;
    Env: string[] | null;
    Labels: Record<string, string> | null;
    WorkingDir: string;
    User: string;
    Hostname: string;
  };
  HostConfig: { RestartPolicy: { Name: string; MaximumRetryCount: number }; Memory: number; NanoCpus: number };
  Mounts: { Type: string; Name?: string; Source: string; Destination: string; RW: boolean }[];
  NetworkSettings: {
    Ports: Record<string, { HostIp: string; HostPort: string }[] | null> | null;
    Networks: Record<string, { IPAddress: string; GlobalIPv6Address: string; Aliases: string[] | null }>;
  };
}

export interface Image {
  Id: string;
  RepoTags: string[] | null;
  RepoDigests: string[] | null;
  Created: number;
  Size: number;
  SharedSize: number;
  Containers: number;
}

export interface Layer {
  Id: string;
  Created: number;
  CreatedBy: string;
  Size: number;
  Comment: string;
  Tags: string[] | null;
}

export interface Volume {
  Name: string;
  Driver: string;
  Mountpoint: string;
  CreatedAt?: string;
  Labels: Record<string, string> | null;
  UsageData?: { Size: number; RefCount: number } | null;
}

export interface Network {
  Id: string;
  Name: string;
  Driver: string;
  Scope: string;
  Internal: boolean;
  EnableIPv6: boolean;
  Created: string;
  IPAM: { Config: { Subnet?: string; Gateway?: string }[] | null };
  Labels: Record<string, string> | null;
}

export interface CacheRecord {
  ID: string;
  Type: string;
  Description: string;
  InUse: boolean;
  Shared: boolean;
  Size: number;
  CreatedAt: string;
  LastUsedAt: string | null;
  UsageCount: number;
}

export interface DiskUsage {
  LayersSize: number;
  Images: (Image & { Size: number })[] | null;
  Containers: { Id: string; SizeRw?: number; State: string }[] | null;
  Volumes: Volume[] | null;
  BuildCache: CacheRecord[] | null;
}

export interface DockerEvent {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  time: number;
  timeNano: number;
}

export interface Stats {
  read: string;
  cpu_stats: { cpu_usage: { total_usage: number }; system_cpu_usage?: number; online_cpus?: number };
  precpu_stats: { cpu_usage: { total_usage: number }; system_cpu_usage?: number };
  memory_stats: { usage?: number; limit?: number; stats?: Record<string, number> };
  networks?: Record<string, { rx_bytes: number; tx_bytes: number }>;
  blkio_stats?: { io_service_bytes_recursive?: { op: string; value: number }[] | null };
  pids_stats?: { current?: number };
}

export interface PullStep {
  id?: string;
  status?: string;
  progressDetail?: { current?: number; total?: number };
  error?: string;
  errorDetail?: { message: string };
}

const at = (...parts: string[]) => DOCKER + parts.map((part) => `/${encodeURIComponent(part)}`).join("");

export type Pruned = "images" | "volumes" | "networks" | "build";

export const docker = {
  containers: () => json<Container[]>(`${at("containers", "json")}?all=1`),
  container: (id: string) => json<ContainerDetail>(at("containers", id, "json")),
  images: () => json<Image[]>(`${at("images", "json")}?shared-size=1`),
  image: (id: string) => json<Record<string, unknown>>(at("images", id, "json")),
  history: (id: string) => json<Layer[]>(at("images", id, "history")),
  volumes: async () => (await json<{ Volumes: Volume[] | null }>(at("volumes"))).Volumes ?? [],
  networks: () => json<Network[]>(at("networks")),
  usage: () => json<DiskUsage>(at("system", "df")),

  act: async (id: string, action: "start" | "stop" | "restart" | "pause" | "unpause") => {
    await ask(at("containers", id, action), { method: "POST" });
  },
  removeContainer: async (id: string, volumes: boolean) => {
    await ask(`${at("containers", id)}${query({ force: true, v: volumes })}`, { method: "DELETE" });
  },
  createContainer: (name: string, body: unknown) =>
    json<{ Id: string; Warnings: string[] | null }>(
      `${at("containers", "create")}${query({ name: name || undefined })}`,
      sending("POST", body),
    ),
  removeImage: async (name: string, force: boolean) => {
    await ask(`${at("images", name)}${query({ force })}`, { method: "DELETE" });
  },
  tagImage: async (name: string, repo: string, tag: string) => {
    await ask(`${at("images", name, "tag")}${query({ repo, tag })}`, { method: "POST" });
  },
  saveUrl: (names: string[]) => `${at("images", "get")}?${new URLSearchParams(names.map((name) => ["names", name]))}`,
  createVolume: (name: string) => json<Volume>(at("volumes", "create"), sending("POST", { Name: name })),
  removeVolume: async (name: string) => {
    await ask(at("volumes", name), { method: "DELETE" });
  },
  volumeUrl: (name: string) => at("cove", "volumes", name, "archive"),
  importVolume: async (name: string, archive: Blob, replace: boolean) => {
    await ask(`${at("cove", "volumes", name, "archive")}${query({ replace })}`, { method: "PUT", body: archive });
  },
  createNetwork: (body: unknown) => json<{ Id: string }>(at("networks", "create"), sending("POST", body)),
  removeNetwork: async (id: string) => {
    await ask(at("networks", id), { method: "DELETE" });
  },
  disconnect: async (network: string, container: string) => {
    await ask(at("networks", network, "disconnect"), sending("POST", { Container: container, Force: false }));
  },
  prune: (what: Pruned, filters: Record<string, string[]> = {}) =>
    json<{ SpaceReclaimed?: number }>(
      `${at(what, "prune")}${query({ filters: JSON.stringify(filters), all: what === "build" ? true : undefined })}`,
      sending("POST"),
    ),

  archiveUrl: (id: string, path: string) => `${at("containers", id, "archive")}${query({ path })}`,
  putArchive: async (id: string, path: string, archive: Blob) => {
    await ask(`${at("containers", id, "archive")}${query({ path })}`, { method: "PUT", body: archive });
  },
  createExec: async (id: string, body: unknown) =>
    (await json<{ Id: string }>(at("containers", id, "exec"), sending("POST", body))).Id,
  exitCode: async (exec: string) => (await json<{ ExitCode: number | null }>(at("exec", exec, "json"))).ExitCode,
  /** What a command in a running container writes, whole; raises when it is more than so many bytes. */
  output: async (id: string, command: string[], most: number, signal: AbortSignal): Promise<string> => {
    const exec = await docker.createExec(id, { Cmd: command, AttachStdout: true, Tty: true });
    const response = await ask(at("exec", exec, "start"), { ...sending("POST", { Detach: false, Tty: true }), signal });
    const text = await upTo(most, response.body!);
    const ExitCode = await docker.exitCode(exec);
    if (ExitCode !== 0) throw new Failure(text.trim(), 400);
    return text;
  },

  logs: (id: string, options: Record<string, string | number | boolean>, signal: AbortSignal) =>
    listen(`${at("containers", id, "logs")}${query({ stdout: 1, stderr: 1, ...options })}`, signal),
  stats: async (id: string, signal: AbortSignal) =>
    jsonLines<Stats>(await listen(`${at("containers", id, "stats")}?stream=1`, signal)),
  top: (id: string) => json<{ Titles: string[]; Processes: string[][] | null }>(at("containers", id, "top")),
  /** What all containers carry, in bytes a second. */
  traffic: async (signal: AbortSignal) => jsonLines<{ received: number; sent: number }>(await listen(at("cove", "traffic"), signal)),
  events: async (signal: AbortSignal) => jsonLines<DockerEvent>(await listen(at("events"), signal)),
  pull: async (name: string, tag: string, signal: AbortSignal) => {
    const path = `${at("images", "create")}${query({ fromImage: name, tag })}`;
    return jsonLines<PullStep>((await ask(path, { method: "POST", signal })).body!);
  },
  load: async (archive: Blob) => jsonLines<PullStep>((await ask(at("images", "load"), { method: "POST", body: archive })).body!),
};

async function upTo(most: number, body: ReadableStream<Uint8Array>): Promise<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return text + decoder.decode();
    text += decoder.decode(value, { stream: true });
    if (text.length <= most) continue;
    await reader.cancel();
    throw new Failure("", 413);
  }
}

export function nameOf(container: Pick<Container, "Names" | "Id">): string {
  return container.Names[0]?.replace(/^\//, "") ?? container.Id.slice(0, 12);
}

export function projectOf(labels: Record<string, string> | null | undefined): string {
  return labels?.["com.docker.compose.project"] ?? "";
}

/** Addresses that `localhost` means as well. */
const EVERYWHERE = new Set(["", "0.0.0.0", "::", "127.0.0.1", "::1"]);

/** Ports that answer on this computer, each once. */
export function publishedPorts(ports: readonly Port[]): { host: number; inside: number; type: string; link: string }[] {
  const found = new Map<string, { host: number; inside: number; type: string; link: string }>();
  for (const { IP = "", PublicPort, PrivatePort, Type } of ports) {
    if (!PublicPort) continue;
    const scheme = PrivatePort === 443 || PrivatePort === 8443 ? "https" : "http";
    const here = EVERYWHERE.has(IP);
    // Of those that answer on more than one address, the nearest is the link.
    if (!here && found.has(`${PublicPort}/${Type}`)) continue;
    const name = here ? "localhost" : IP.includes(":") ? `[${IP}]` : IP;
    found.set(`${PublicPort}/${Type}`, {
      host: PublicPort,
      inside: PrivatePort,
      type: Type,
      link: Type === "tcp" ? `${scheme}://${name}:${PublicPort}/` : "",
    });
  }
  return [...found.values()].sort((one, other) => one.host - other.host);
}
