/** Removing what nobody uses, with a look at it first. */

import { useState } from "preact/hooks";
import { docker, type Pruned } from "../api/docker";
import { t } from "../i18n";
import { bytes, count } from "../lib/format";
import { Button } from "../ui/basics";
import { FormDialog } from "../ui/dialog";
import { told } from "../ui/toasts";

/** `remove`: what is done instead of docker's own pruning. */
export function PruneButton({ what, items, filters = {}, remove, done }: {
  what: Pruned;
  items: { id?: string; name: string; size?: number }[];
  filters?: Record<string, string[]>;
  remove?: () => Promise<void>;
  done: () => Promise<unknown>;
}) {
  const [open, set] = useState(false);
  const size = items.reduce((sum, item) => sum + Math.max(0, item.size ?? 0), 0);
  return (
    <>
      <Button icon="remove" label={t("prune")} onClick={() => set(true)} />
      {open && (
        <FormDialog
          danger
          title={t(`prune.${what}`)}
          action={t("prune.action", { count: count(items.length) })}
          close={() => set(false)}
          run={async () => {
            if (remove) {
              await remove();
              told(t("prune.removed", { count: count(items.length) }));
            } else {
              const { SpaceReclaimed = 0 } = await docker.prune(what, filters);
              told(t("prune.done", { size: bytes(SpaceReclaimed) }));
            }
            await done();
          }}
        >
          <p>{what === "volumes" ? t("prune.volumes.text") : what === "build" ? t("prune.build.text") : t("prune.text")}</p>
          <ul class="rows preview" tabIndex={0} aria-label={t("prune.preview")}>
            {items.map((item) => (
              <li key={item.id ?? item.name}>
                <span class="mono">{item.name}</span>
                {item.size !== undefined && item.size >= 0 && <span class="muted nowrap">{bytes(item.size)}</span>}
              </li>
            ))}
          </ul>
          {size > 0 && <p class="muted">{t("prune.most", { size: bytes(size) })}</p>}
        </FormDialog>
      )}
    </>
  );
}
