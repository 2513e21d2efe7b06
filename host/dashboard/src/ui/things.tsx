/** What the pages of images, volumes and networks have in common: a head with a search, a table that the keyboard walks, a removal that asks. */

import { signal } from "@preact/signals";
import type { ComponentChildren, VNode } from "preact";
import { t } from "../i18n";
import { count } from "../lib/format";
import type { Resource } from "../state/resource";
import { Button, Empty, Header, Loading, Problem, Search } from "./basics";
import { confirm } from "./dialog";
import { moveAmongRows } from "./rows";
import { told } from "./toasts";

export type Kind = "images" | "volumes" | "networks";

/** Who comes back to a page finds what was looked for. */
const words = { images: signal(""), volumes: signal(""), networks: signal("") };

interface ThingsProps<T> {
  kind: Kind;
  resource: Resource<T[]>;
  /** What the search looks into. */
  texts: (thing: T) => readonly string[];
  columns: readonly { text: string; class?: string }[];
  row: (thing: T) => VNode;
  /** What can be done to all of them. */
  tools?: ComponentChildren;
  /** The way to a new one; where there is none yet, it is all that there is. */
  add: VNode;
  above?: (all: readonly T[]) => ComponentChildren;
}

export function Things<T>({ kind, resource, texts, columns, row, tools, add, above }: ThingsProps<T>) {
  const all = resource.data.value;
  const error = resource.error.value;
  const searched = words[kind];
  const asked = searched.value.trim().toLowerCase();
  const shown = (all ?? []).filter((thing) => !asked || texts(thing).some((text) => text.toLowerCase().includes(asked)));
  return (
    <>
      <Header title={t(`nav.${kind}`)} note={all ? t(`${kind}.note`, { all: count(all.length) }) : undefined}>
        {all && all.length > 0 && <Search label={t(`${kind}.search`)} value={searched.value} onInput={(value) => (searched.value = value)} />}
        {all && tools}
        {all && add}
      </Header>
      {error ? <Problem error={error} again={() => resource.refresh()} /> : !all ? <Loading /> : all.length === 0 ? (
        <Empty icon={kind} title={t(`${kind}.none`)} text={t(`${kind}.none.text`)}>{add}</Empty>
      ) : (
        <>
          {above?.(all)}
          {shown.length === 0 ? <Empty icon="search" title={t("search.none")} text={t("search.none.text")} /> : (
            <table class="table" onKeyDown={moveAmongRows}>
              <caption class="hidden">{t(`nav.${kind}`)}</caption>
              <thead>
                <tr>
                  {columns.map((column) => <th key={column.text} scope="col" class={column.class}>{column.text}</th>)}
                  <th scope="col" class="end"><span class="hidden">{t("actions")}</span></th>
                </tr>
              </thead>
              <tbody>{shown.map(row)}</tbody>
            </table>
          )}
        </>
      )}
    </>
  );
}

/** `gone`: what follows on a page that was of this thing alone. */
export function RemoveButton({ kind, name, remove, bare = false, gone }: {
  kind: Kind | "builds";
  name: string;
  remove: () => Promise<void>;
  bare?: boolean;
  gone?: () => void;
}) {
  return (
    <Button
      bare={bare}
      kind={bare ? "quiet" : "plain"}
      icon="remove"
      label={bare ? `${t("remove")}: ${name}` : t("remove")}
      onClick={() =>
        confirm({
          title: t(`${kind}.remove`, { name }),
          text: <p>{t(`${kind}.remove.text`)}</p>,
          action: t("remove"),
          run: async () => {
            await remove();
            told(t("removed", { name }));
          },
          after: gone,
        })
      }
    />
  );
}
