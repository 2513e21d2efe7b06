import { signal } from "@preact/signals";
import { memo } from "preact/compat";
import { useEffect } from "preact/hooks";
import { docker, nameOf, projectOf, publishedPorts, type Container } from "../api/docker";
import { Failure } from "../api/http";
import { t } from "../i18n";
import { ago, count } from "../lib/format";
import { useGrowing, useNow } from "../lib/hooks";
import { path } from "../router";
import { containers } from "../state/engine";
import { Choice, Doing, Dot, Empty, Header, Loading, Problem, Search } from "../ui/basics";
import { confirm } from "../ui/dialog";
import { moveAmongRows } from "../ui/rows";
import { told, words as wordsOf } from "../ui/toasts";
import { RunButton } from "./run";

const words = signal("");
const which = signal<"all" | "running" | "stopped">("all");

export function Containers() {
  useEffect(() => containers.want(), []);
  const all = containers.data.value;
  const error = containers.error.value;
  if (error && !all) return <Page><Problem error={error} again={() => containers.refresh()} /></Page>;
  if (!all) return <Page><Loading /></Page>;
  const running = all.filter(isUp).length;
  return (
    <Page note={t("containers.note", { running: count(running), all: count(all.length) })} tools={all.length > 0}>
      {error && <Problem error={error} again={() => containers.refresh()} />}
      {!error && all.length === 0 ? (
        <Empty icon="containers" title={t("containers.none")} text={<>{t("containers.none.text")} <code>docker run -d -p 8080:80 cove/starter</code></>}>
          <RunButton primary />
        </Empty>
      ) : (
        !error && <Table all={all} shown={all.filter(matches)} />
      )}
    </Page>
  );
}

function Page({ note, tools = false, children }: { note?: string; tools?: boolean; children: preact.ComponentChildren }) {
  return (
    <>
      <Header title={t("nav.containers")} note={note}>
        {tools && (
          <>
            <Search label={t("containers.search")} value={words.value} onInput={(value) => (words.value = value)} />
            <Choice
              label={t("containers.which")}
              value={which.value}
              onChange={(value) => (which.value = value)}
              options={[
                { value: "all", text: t("containers.all") },
                { value: "running", text: t("containers.running") },
                { value: "stopped", text: t("containers.stopped") },
              ]}
            />
            <RunButton />
          </>
        )}
      </Header>
      {children}
    </>
  );
}

export function isUp({ State }: { State: string }): boolean {
  return State === "running" || State === "paused" || State === "restarting";
}

function matches(container: Container): boolean {
  if (which.value !== "all" && isUp(container) !== (which.value === "running")) return false;
  const asked = words.value.trim().toLowerCase();
  return !asked || [nameOf(container), container.Image, container.Id, projectOf(container.Labels)].some((text) => text.toLowerCase().includes(asked));
}

/** Compose projects in their order, then what belongs to none. */
function grouped(list: readonly Container[]): [string, Container[]][] {
  const groups = new Map<string, Container[]>();
  for (const container of list) {
    const project = projectOf(container.Labels);
    const group = groups.get(project);
    if (group) group.push(container);
    else groups.set(project, [container]);
  }
  return [...groups].sort(([one], [other]) => (one === "" ? 1 : other === "" ? -1 : one.localeCompare(other)));
}

function Table({ all, shown }: { all: Container[]; shown: Container[] }) {
  useNow();
  const drawn = useGrowing(shown);
  if (shown.length === 0) return <Empty icon="search" title={t("search.none")} text={t("search.none.text")} />;
  const groups = grouped(drawn);
  return (
    <table class="table containers" onKeyDown={moveAmongRows}>
      <caption class="hidden">{t("nav.containers")}</caption>
      <thead>
        <tr>
          <th scope="col">{t("name")}</th>
          <th scope="col" class="wide">{t("image")}</th>
          <th scope="col">{t("state")}</th>
          <th scope="col" class="wide">{t("ports")}</th>
          <th scope="col" class="end"><span class="hidden">{t("actions")}</span></th>
        </tr>
      </thead>
      {groups.map(([project, list]) => (
        <tbody key={project}>
          {groups.length > 1 || project ? <GroupRow project={project} list={all.filter(({ Labels }) => projectOf(Labels) === project)} /> : null}
          {list.map((container) => (
            <Row key={container.Id} container={container} inProject={project !== ""} when={ago(container.Created)} />
          ))}
        </tbody>
      ))}
    </table>
  );
}

/** `list`: all that belong to it, whichever are shown. */
function GroupRow({ project, list }: { project: string; list: Container[] }) {
  const up = list.filter(isUp);
  const down = list.filter((container) => !isUp(container));
  return (
    <tr class="group">
      <th scope="rowgroup" colSpan={2}>
        {project || t("containers.single")}
        <span class="muted"> {t("containers.group", { running: count(up.length), all: count(list.length) })}</span>
      </th>
      <td class="wide" colSpan={2} />
      <td class="end">
        {project && (
          <div class="row-actions">
            {down.length > 0 && (
              <Doing bare kind="quiet" icon="play" label={t("group.start", { name: project })} run={() => each(down, "start")} />
            )}
            {up.length > 0 && (
              <Doing bare kind="quiet" icon="stop" label={t("group.stop", { name: project })} run={() => each(up, "stop")} />
            )}
          </div>
        )}
      </td>
    </tr>
  );
}

/** All are tried, a few at a time; what failed is told of in one. */
async function each(list: Container[], action: "start" | "stop"): Promise<void> {
  const waiting = [...list];
  const wrong: string[] = [];
  const work = async () => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      try {
        await docker.act(one.Id, action);
      } catch (error) {
        wrong.push(`${nameOf(one)}: ${wordsOf(error).text}`);
      }
    }
  };
  await Promise.all([work(), work(), work()]);
  if (wrong.length > 0) throw new Failure(wrong.join("\n"), 500);
}

/** In a table of hundreds only the rows whose container changed are drawn again. */
const Row = memo(
  function Row({ container, inProject }: { container: Container; inProject: boolean; when: string }) {
    const name = nameOf(container);
    const service = container.Labels["com.docker.compose.service"];
    return (
      <tr class={isUp(container) ? "" : "down"}>
        <td>
          <a class="name" data-row href={path("containers", container.Id.slice(0, 12))}>
            <Dot state={container.State} />
            <span>
              {inProject && service ? service : name}
              {inProject && service && <span class="muted wide-inline"> {name}</span>}
            </span>
          </a>
          <span class="under narrow">{container.Image}</span>
        </td>
        <td class="wide mono clip" title={container.Image}>{container.Image}</td>
        <td class="nowrap">
          <span class={`state ${container.State}`}>{stateText(container)}</span>
        </td>
        <td class="wide"><Ports container={container} /></td>
        <td class="end">
          <ContainerActions id={container.Id} name={name} state={container.State} />
        </td>
      </tr>
    );
  },
  (one, other) =>
    one.when === other.when && one.inProject === other.inProject && JSON.stringify(one.container) === JSON.stringify(other.container),
);

export function stateText({ State, Status }: { State: string; Status: string }): string {
  const exit = /^Exited \((\d+)\)/.exec(Status)?.[1];
  if (State === "exited" && exit !== undefined) return exit === "0" ? t("state.exited") : t("state.failed", { code: exit });
  const health = /\((healthy|unhealthy|health: starting)\)/.exec(Status)?.[1];
  const text = stateWord(State);
  if (health === "healthy") return `${text}, ${t("state.healthy")}`;
  if (health === "unhealthy") return `${text}, ${t("state.unhealthy")}`;
  return text;
}

export function stateWord(state: string): string {
  switch (state) {
    case "running": return t("state.running");
    case "paused": return t("state.paused");
    case "created": return t("state.created");
    case "restarting": return t("state.restarting");
    case "removing": return t("state.removing");
    case "exited": return t("state.exited");
    case "dead": return t("state.dead");
    default: return state;
  }
}

function Ports({ container }: { container: Container }) {
  return (
    <span class="ports">
      {publishedPorts(container.Ports).map(({ host, inside, type, link }) =>
        link ? (
          <a key={host} href={link} target="_blank" rel="noreferrer" title={`${host} → ${inside}`}>{host}</a>
        ) : (
          <span key={`${host}/${type}`}>{host}/{type}</span>
        ),
      )}
    </span>
  );
}

export function ContainerActions({ id, name, state, full = false, gone }: {
  id: string;
  name: string;
  state: string;
  /** With texts, as a page's head has them. */
  full?: boolean;
  gone?: () => void;
}) {
  const up = state === "running" || state === "restarting";
  const paused = state === "paused";
  const shared = { bare: !full, kind: full ? "plain" : "quiet" } as const;
  // In a row on a phone there is room for the most needed ones; the container's own page has all.
  const second = full ? "" : "wide-inline";
  const label = (text: string) => (full ? text : `${text}: ${name}`);
  return (
    <div class="row-actions">
      {paused ? (
        <Doing {...shared} icon="play" label={label(t("unpause"))} run={() => docker.act(id, "unpause")} />
      ) : up ? (
        <Doing {...shared} icon="stop" label={label(t("stop"))} run={() => docker.act(id, "stop")} />
      ) : (
        <Doing {...shared} icon="play" label={label(t("start"))} run={() => docker.act(id, "start")} />
      )}
      {up ? <Doing {...shared} class={second} icon="pause" label={label(t("pause"))} run={() => docker.act(id, "pause")} /> : !full && <span class="slot wide-inline" />}
      <Doing {...shared} class={second} icon="restart" label={label(t("restart"))} run={() => docker.act(id, "restart")} />
      <Doing
        {...shared}
        icon="remove"
        label={label(t("remove"))}
        run={async () =>
          confirm({
            title: t("container.remove", { name }),
            text: <p>{up || paused ? t("container.remove.running") : t("container.remove.text")}</p>,
            action: t("remove"),
            run: async () => {
              await docker.removeContainer(id, true);
              told(t("removed", { name }));
            },
            after: gone,
          })
        }
      />
    </div>
  );
}
