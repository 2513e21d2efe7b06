/** The machine's state, as it is told. */

import { computed, signal } from "@preact/signals";
import { cove, type Figures, type Machine, type Verb } from "../api/cove";
import { Failure } from "../api/http";
import { reconnect } from "./engine";

const LONGEST_WAIT_MS = 30_000;
/** Ten minutes at one every two seconds. */
const KEPT = 300;

export const machine = signal<Machine | null>(null);
/** Whether Cove's own server answers at all. */
export const served = signal(true);
/** What is being done with the machine from this page, and the last that was told of it. */
export const moving = signal<{ verb: Verb; text: string } | null>(null);
/** When, and the figures then; oldest first. */
export const figures = signal<readonly { time: number; now: Figures }[]>([]);

export const running = computed(() => (machine.value ? machine.value.state === "running" : true));

export async function follow(): Promise<never> {
  for (let wait = 1000; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
    try {
      for await (const { data } of await cove.watch(new AbortController().signal)) {
        wait = 1000;
        served.value = true;
        take(data);
      }
    } catch (error) {
      if (error instanceof Failure && error.status === 0) served.value = false;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function take(told: Partial<Machine> & { figures?: Figures }): void {
  if (told.figures) {
    figures.value = [...figures.value.slice(1 - KEPT), { time: Date.now() / 1000, now: told.figures }];
  }
  if (told.state) {
    const before = machine.value?.state;
    machine.value = { ...machine.value, ...told } as Machine;
    if (told.state === "running" && before !== "running") reconnect();
  }
}

export async function move(verb: Verb): Promise<void> {
  moving.value = { verb, text: "" };
  try {
    await cove.move(verb, (step) => {
      if (step.text) moving.value = { verb, text: step.text };
    });
  } finally {
    moving.value = null;
  }
}
