/** Events in words. */

import type { DockerEvent } from "../api/docker";
import { t, type Key } from "../i18n";
import { en } from "../i18n/en";
import { short } from "../lib/format";

export function eventText({ Type, Action, Actor }: DockerEvent): string {
  const name = Actor.Attributes.name || (Type === "image" ? short(Actor.ID) : Actor.ID.slice(0, 12));
  const [verb, detail = ""] = Action.split(/:\s*/, 2) as [string, string?];
  if (Type === "container" && verb === "die" && Actor.Attributes.exitCode !== "0") return t("event.container.died", { name, code: Actor.Attributes.exitCode ?? "?" });
  if (Type === "container" && verb === "health_status") return t("event.container.health_status", { name, health: detail });
  if (Type === "network" && (verb === "connect" || verb === "disconnect"))
    return t(`event.network.${verb}`, { name, container: (Actor.Attributes.container ?? "").slice(0, 12) });
  const key = `event.${Type}.${verb}`;
  return key in en ? t(key as Key, { name }) : `${Type} ${name}: ${Action}`;
}
