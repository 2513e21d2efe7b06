/** The machine's state, as it is told. */

import { computed, signal } from "@preact/signals";
import { cove, type Figures, type Machine, type Progress, type News, type Verb } from "../api/cove";
import { Failure } from "../api/http";
import { reconnect, rest } from "./engine";

const LONGEST_WAIT_MS = 30_000;
/** Ten minutes at one every two seconds. */
const KEPT = 300;

export const machine = signal<Machine | null>(null);
/** Whether Cove's own server answers at all. */
export const served = signal(true);
/** What is being done with the machine from this page, and the last that was told of it. */
export const moving = signal<{ verb: Verb; progress: Progress | null } | null>(null);
/** What is told of a move, from wherever it was asked for. */
export const progress = signal<Progress | null>(null);
/** When, and the figures then; oldest first. */
export const figures = signal<readonly { time: number; now: Figures }[]>([]);

/** Whether there is no engine to be asked. One that stands still, for its disk is full, may have something to say. */
export const away = computed(() => machine.value !== null && !["running", "paused", "unknown"].includes(machine.value.state));
export const running = computed(() => (machine.value ? machine.value.state === "running" : true));

export async function follow(): Promise<never> {
  for (let wait = 1000; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
    try {
      for await (const told of cove.watch(new AbortController().signal)) {
        wait = 1000;
        served.value = true;
        take(told);
      }
    } catch (error) {
      if (error instanceof Failure && error.status === 0) served.value = false;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function take(told: News): void {
  if (told.figures) figures.value = [...figures.value.slice(1 - KEPT), { time: Date.now() / 1000, now: told.figures }];
  if (told.progress) progress.value = told.progress;
  if (!told.state) return;
  const before = machine.value?.state;
  machine.value = told.state;
  if (told.state.state === before) return;
  progress.value = null;
  if (told.state.state === "running") reconnect();
  else {
    rest();
    figures.value = [];
  }
}

export async function move(verb: Verb): Promise<void> {
  moving.value = { verb, progress: null };
  try {
    await cove.move(verb, (told) => {
      moving.value = { verb, progress: told };
    });
  } finally {
    moving.value = null;
    progress.value = null;
  }
}

/** The words of what is being done with the machine, if anything is. */
export const step = computed(() => moving.value?.progress ?? progress.value);
