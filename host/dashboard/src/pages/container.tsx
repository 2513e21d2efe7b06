/** One container: its head, and the tab that is open. */

import { lazy } from "preact/compat";
import { useEffect, useMemo } from "preact/hooks";
import { docker, nameOf, projectOf, type ContainerDetail } from "../api/docker";
import { t } from "../i18n";
import { ago } from "../lib/format";
import { go, path } from "../router";
import { connected, containers, onEvent } from "../state/engine";
import { Resource } from "../state/resource";
import { Guard } from "../ui/guard";
import { Crumbs, Empty, Header, Loading, Problem, Tabs } from "../ui/basics";
import { ContainerActions, stateWord } from "./containers";
import { Files } from "./files";
import { Inspect } from "./inspect";
import { Logs } from "./logs";

const Terminal = lazy(() => import("./terminal"));
const Stats = lazy(() => import("./stats"));

export function ContainerPage({ id, tab }: { id: string; tab: string }) {
  const container = useMemo(() => new Resource(() => docker.container(id)), [id]);
  const detail = container.data.value;
  const error = container.error.value;
  const look = () => container.refresh();
  useEffect(() => container.want(), [container]);
  useEffect(
    () =>
      onEvent((event) => {
        if (event.Type === "container" && event.Actor.ID.startsWith(id)) container.changed();
      }),
    [container],
  );
  useEffect(() => {
    // What happened while there was no connection, no event has told.
    if (connected.value) container.changed();
  }, [container, connected.value]);

  if (error?.status === 404)
    return (
      <Empty whole icon="containers" title={t("container.gone")} text={t("container.gone.text")}>
        <a class="button primary" href={path("containers")}>{t("container.back")}</a>
      </Empty>
    );
  if (error && !detail) return <Problem error={error} again={look} />;
  if (!detail) {
    const known = containers.data.value?.find(({ Id }) => Id.startsWith(id));
    return <><Crumbs page="containers" /><Header title={known ? nameOf(known) : id} /><Loading /></>;
  }

  const name = detail.Name.replace(/^\//, "");
  const open = tab || "logs";
  const tabs = (["logs", "terminal", "inspect", "stats", "files"] as const).map((one) => ({
    id: one,
    text: t(`tab.${one}`),
    href: path("containers", id, one),
  }));
  const project = projectOf(detail.Config.Labels);
  return (
    <>
      <Crumbs page="containers" more={project} />
      <Header
        title={name}
        dot={detail.State.Status}
        note={<>{stateWord(detail.State.Status)} · {since(detail)} · <span class="mono">{detail.Config.Image}</span></>}
      >
        <ContainerActions full id={detail.Id} name={name} state={detail.State.Status} gone={() => go("containers")} />
      </Header>
      {error && <p class="notice bad" role="status" lang={error.message ? "en" : undefined}>{error.message || t("problem.away")}</p>}
      {detail.State.Error && <p class="notice bad" lang="en">{detail.State.Error}</p>}
      {detail.State.OOMKilled && <p class="notice bad">{t("container.oom")}</p>}
      <Tabs label={t("container.tabs", { name })} tabs={tabs} current={open} />
      <Guard key={open}>
        {open === "logs" && <Logs key={`${detail.Id} ${detail.State.StartedAt}`} id={detail.Id} name={name} tty={detail.Config.Tty} />}
        {open === "terminal" && <Terminal key={detail.Id} id={detail.Id} running={detail.State.Running} />}
        {open === "inspect" && <Inspect detail={detail} />}
        {open === "stats" && <Stats key={detail.Id} id={detail.Id} running={detail.State.Running} />}
        {open === "files" && <Files key={detail.Id} id={detail.Id} running={detail.State.Running} />}
      </Guard>
    </>
  );
}

function since({ State, Created }: ContainerDetail): string {
  const when = (text: string) => ago(new Date(text).getTime() / 1000);
  if (State.Running) return t("since.started", { when: when(State.StartedAt) });
  if (State.Status === "created") return t("since.created", { when: when(Created) });
  return t("since.ended", { when: when(State.FinishedAt), code: State.ExitCode });
}
