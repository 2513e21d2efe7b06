/** Events in words. */

import { nameOf, type DockerEvent } from "../api/docker";
import { t, type Key } from "../i18n";
import { en } from "../i18n/en";
import { short } from "../lib/format";
import { containers } from "../state/engine";

export function eventText({ Type, Action, Actor }: DockerEvent): string {
  const name = Actor.Attributes.name || (Type === "image" ? short(Actor.ID) : Actor.ID.slice(0, 12));
  const [verb, detail = ""] = Action.split(/:\s*/, 2) as [string, string?];
  if (Type === "container" && verb === "die" && Actor.Attributes.exitCode !== "0") return t("event.container.died", { name, code: Actor.Attributes.exitCode ?? "?" });
  if (Type === "container" && verb === "health_status") return t("event.container.health_status", { name, health: detail });
  if (Type === "network" && (verb === "connect" || verb === "disconnect"))
    return t(`event.network.${verb}`, { name, container: containerName(Actor.Attributes.container ?? "") });
  const key = `event.${Type}.${verb}`;
  return key in en ? t(key as Key, { name }) : `${Type} ${name}: ${Action}`;
}

/** By which people know it; its id when it is gone already, or new. */
function containerName(id: string): string {
  const known = containers.data.value?.find(({ Id }) => Id === id);
  return known ? nameOf(known) : id.slice(0, 12);
}
