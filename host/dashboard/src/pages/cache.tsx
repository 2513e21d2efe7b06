/** What is kept of builds, and what that takes. */

import { useEffect, useState } from "preact/hooks";
import type { CacheRecord } from "../api/docker";
import { t } from "../i18n";
import { ago, bytes, count } from "../lib/format";
import { usage } from "../state/engine";
import { Empty, Header, Loading, Problem, Search } from "../ui/basics";
import { PruneButton } from "./prune";

export function Cache() {
  const [words, search] = useState("");
  // No event tells of what builds keep: it is as of now.
  useEffect(() => {
    usage.changed();
    return usage.want();
  }, []);
  const told = usage.data.value;
  const error = usage.error.value;
  const all = [...(told?.BuildCache ?? [])].sort((one, other) => other.Size - one.Size);
  const asked = words.trim().toLowerCase();
  const shown = all.filter(({ Description }) => Description.toLowerCase().includes(asked));
  const free = all.filter(({ InUse }) => !InUse);
  return (
    <>
      <Header title={t("nav.cache")} note={told ? t("cache.note", { all: count(all.length), size: bytes(all.reduce((sum, { Size, Shared }) => sum + (Shared ? 0 : Size), 0)) }) : undefined}>
        {all.length > 0 && <Search label={t("cache.search")} value={words} onInput={search} />}
        {free.length > 0 && <PruneButton what="build" items={free.map(({ ID, Description, Size }) => ({ id: ID, name: Description || ID, size: Size }))} done={() => usage.refresh()} />}
      </Header>
      {error ? <Problem error={error} again={() => usage.refresh()} /> : !told ? <Loading /> : all.length === 0 ? (
        <Empty icon="cache" title={t("cache.none")} text={<>{t("cache.none.text")} <code>docker build -t app .</code></>} />
      ) : shown.length === 0 ? <Empty icon="search" title={t("search.none")} text={t("search.none.text")} /> : (
        <table class="table">
          <caption class="hidden">{t("nav.cache")}</caption>
          <thead>
            <tr>
              <th scope="col">{t("cache.step")}</th>
              <th scope="col" class="wide">{t("cache.used")}</th>
              <th scope="col" class="wide end">{t("cache.times")}</th>
              <th scope="col" class="end">{t("size")}</th>
            </tr>
          </thead>
          <tbody>{shown.map((record) => <Row key={record.ID} record={record} />)}</tbody>
        </table>
      )}
    </>
  );
}

function Row({ record: { ID, Description, Type, Size, InUse, LastUsedAt, CreatedAt, UsageCount } }: { record: CacheRecord }) {
  return (
    <tr>
      <td>
        <code>{Description || ID}</code>
        <span class="under muted">{[Type, InUse && t("cache.inUse")].filter(Boolean).join(" · ")}</span>
      </td>
      <td class="wide nowrap">{ago(Date.parse(LastUsedAt || CreatedAt) / 1000)}</td>
      <td class="wide end">{count(UsageCount)}</td>
      <td class="end nowrap">{bytes(Size)}</td>
    </tr>
  );
}
