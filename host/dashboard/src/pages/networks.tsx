import { useEffect, useState } from "preact/hooks";
import { docker, nameOf, type Container, type Network } from "../api/docker";
import { t } from "../i18n";
import { count, moment, short } from "../lib/format";
import { go, path } from "../router";
import { containers, networks } from "../state/engine";
import { want } from "../state/resource";
import { Button, Check, Copy, Crumbs, Doing, Dot, Empty, Facts, Header, Loading, Problem } from "../ui/basics";
import { Field, FormDialog } from "../ui/dialog";
import { RemoveButton, Things } from "../ui/things";
import { PruneButton } from "./prune";

const BUILT_IN = new Set(["bridge", "host", "none"]);

function membersOf(network: Network): Container[] {
  return (containers.data.value ?? []).filter(({ NetworkSettings }) =>
    Object.entries(NetworkSettings?.Networks ?? {}).some(([name, { NetworkID }]) => (NetworkID ? NetworkID === network.Id : name === network.Name)),
  );
}

function subnets(network: Network): string {
  return (network.IPAM.Config ?? []).map(({ Subnet }) => Subnet).filter(Boolean).join(", ");
}

export function Networks() {
  useEffect(() => want(networks, containers), []);
  const unused = (containers.data.value ? (networks.data.value ?? []) : []).filter((network) => !BUILT_IN.has(network.Name) && membersOf(network).length === 0);
  return (
    <Things
      kind="networks"
      resource={networks}
      texts={(network) => [network.Name, network.Driver, subnets(network)]}
      columns={[{ text: t("name") }, { text: t("networks.driver"), class: "wide" }, { text: t("networks.subnet") }, { text: t("networks.connected"), class: "wide" }]}
      row={(network) => <Row key={network.Id} network={network} />}
      tools={
        unused.length > 0 && (
          <PruneButton
            what="networks"
            items={unused.map(({ Id, Name }) => ({ id: Id, name: Name }))}
            // Docker's own would take those of stopped containers too, which could not start again then.
            remove={async () => {
              for (const { Id } of unused) await docker.removeNetwork(Id);
            }}
            done={() => networks.refresh()}
          />
        )
      }
      add={<CreateButton />}
      above={(all) => <Connections networks={all.filter((network) => membersOf(network).length > 0)} />}
    />
  );
}

function Row({ network }: { network: Network }) {
  return (
    <tr>
      <td><a class="name" data-row href={path("networks", short(network.Id))}><span>{network.Name}</span></a></td>
      <td class="wide">{network.Driver}{network.Internal && <span class="muted"> · {t("networks.internal")}</span>}</td>
      <td class="mono">{subnets(network) || "–"}</td>
      <td class="wide">{containers.data.value ? count(membersOf(network).length) : "–"}</td>
      <td class="end"><div class="row-actions">{!BUILT_IN.has(network.Name) && <RemoveNetwork network={network} bare />}</div></td>
    </tr>
  );
}

const ROW = 34;
const PAD = 10;

/** Networks at the left, containers at the right, a line for each connection. What it shows, the table and the lists say in words. */
function Connections({ networks: shown }: { networks: Network[] }) {
  const members = new Set(shown.flatMap((network) => membersOf(network)));
  const list = [...members];
  if (shown.length === 0 || list.length === 0) return null;
  const height = Math.max(shown.length, list.length) * ROW + PAD * 2;
  const at = (index: number, of: number) => PAD + ((height - PAD * 2) / of) * (index + 0.5);
  return (
    <figure class="map block">
      <figcaption class="block-head"><h2>{t("networks.map")}</h2></figcaption>
      <div class="map-scroll">
        <svg viewBox={`0 0 720 ${height}`} style={{ height }} role="group" aria-label={t("networks.map.text", { networks: count(shown.length), containers: count(list.length) })}>
          {shown.flatMap((network, row) =>
            membersOf(network).map((container) => {
              const from = at(row, shown.length);
              const to = at(list.indexOf(container), list.length);
              return <path key={`${network.Id} ${container.Id}`} class={`wire wire-${row % 4}`} d={`M220 ${from} C 340 ${from}, 380 ${to}, 500 ${to}`} />;
            }),
          )}
          {shown.map((network, row) => (
            <a key={network.Id} href={path("networks", short(network.Id))} class="node">
              <rect x="1" y={at(row, shown.length) - 13} width="219" height="26" rx="6" />
              <circle class={`wire-${row % 4}`} cx="16" cy={at(row, shown.length)} r="4" />
              <text x="30" y={at(row, shown.length) + 4}>{clip(network.Name, 26)}</text>
            </a>
          ))}
          {list.map((container, row) => (
            <a key={container.Id} href={path("containers", container.Id.slice(0, 12))} class="node">
              <rect x="500" y={at(row, list.length) - 13} width="219" height="26" rx="6" />
              <circle class={`state-${container.State}`} cx="515" cy={at(row, list.length)} r="4" />
              <text x="529" y={at(row, list.length) + 4}>{clip(nameOf(container), 26)}</text>
            </a>
          ))}
        </svg>
      </div>
    </figure>
  );
}

function clip(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function RemoveNetwork({ network, ...more }: { network: Network; bare?: boolean; gone?: () => void }) {
  return <RemoveButton kind="networks" name={network.Name} remove={() => docker.removeNetwork(network.Id)} {...more} />;
}

function CreateButton() {
  const [open, set] = useState(false);
  const [form, fill] = useState({ name: "", subnet: "", internal: false });
  return (
    <>
      <Button kind="primary" icon="add" label={t("networks.create")} onClick={() => set(true)} />
      {open && (
        <FormDialog
          title={t("networks.create")}
          action={t("create")}
          ready={form.name.trim() !== ""}
          close={() => set(false)}
          run={() =>
            docker.createNetwork({
              Name: form.name.trim(),
              Driver: "bridge",
              Internal: form.internal,
              ...(form.subnet.trim() && { IPAM: { Driver: "default", Config: [{ Subnet: form.subnet.trim() }] } }),
            })
          }
        >
          <Field label={t("name")}><input required autofocus value={form.name} onInput={(event) => fill({ ...form, name: event.currentTarget.value })} /></Field>
          <Field label={t("networks.subnet")} hint={t("networks.subnet.hint")}><input class="mono" placeholder="10.20.0.0/24" value={form.subnet} onInput={(event) => fill({ ...form, subnet: event.currentTarget.value })} /></Field>
          <Check label={t("networks.internal.check")} checked={form.internal} onChange={(internal) => fill({ ...form, internal })} />
        </FormDialog>
      )}
    </>
  );
}

export function NetworkPage({ id }: { id: string }) {
  useEffect(() => want(networks, containers), []);
  const network = networks.data.value?.find(({ Id, Name }) => Id.startsWith(id) || Name === id);
  if (networks.error.value) return <Problem error={networks.error.value} again={() => networks.refresh()} />;
  if (!networks.data.value || !containers.data.value) return <><Crumbs page="networks" /><Header title={id} /><Loading /></>;
  if (!network) return <Empty whole icon="networks" title={t("networks.gone")} text={t("networks.gone.text")}><a class="button primary" href={path("networks")}>{t("networks.back")}</a></Empty>;
  const members = membersOf(network);
  return (
    <>
      <Crumbs page="networks" />
      <Header title={network.Name}>{!BUILT_IN.has(network.Name) && <RemoveNetwork network={network} gone={() => go("networks")} />}</Header>
      <Facts
        facts={[
          [t("id"), <><span class="mono">{short(network.Id)}</span> <Copy text={network.Id} /></>],
          [t("networks.driver"), network.Driver],
          [t("networks.subnet"), <span class="mono">{subnets(network) || "–"}</span>],
          [t("networks.gateway"), <span class="mono">{(network.IPAM.Config ?? []).map(({ Gateway }) => Gateway).filter(Boolean).join(", ") || "–"}</span>],
          [t("networks.outside"), network.Internal ? t("networks.outside.no") : t("networks.outside.yes")],
          [t("created"), moment(network.Created)],
        ]}
      />
      <section class="block">
        <h2>{t("networks.connected")} <span class="muted">{count(members.length)}</span></h2>
        {members.length === 0 ? <p class="muted quiet-empty">{t("networks.alone")}</p> : (
          <ul class="rows">
            {members.map((container) => {
              const name = nameOf(container);
              const address = Object.entries(container.NetworkSettings?.Networks ?? {}).find(([each]) => each === network.Name)?.[1].IPAddress;
              return (
                <li key={container.Id}>
                  <a class="name" href={path("containers", container.Id.slice(0, 12))}><Dot state={container.State} /><span>{name}</span></a>
                  <span class="mono muted">{address || "–"}</span>
                  <Doing kind="quiet" label={t("networks.disconnect")} run={() => docker.disconnect(network.Id, container.Id)} />
                </li>
              );
            })}
          </ul>
        )}
      </section>
    </>
  );
}
