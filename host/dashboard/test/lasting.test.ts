import { signal } from "@preact/signals";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Failure } from "../src/api/http";

vi.stubGlobal("navigator", { languages: ["en"] });
const { connected } = await import("../src/state/engine");
const { until } = await import("../src/lib/until");
const { docker } = await import("../src/api/docker");
const { follow: followTraffic, traffic } = await import("../src/state/traffic");
const { lasting } = await import("../src/state/lasting");

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("a stream that lasts", () => {
  it("is begun again after a cut, when there is an engine to ask, and ends by itself", async () => {
    const ends = [() => Promise.reject(new Failure("", 0)), () => Promise.reject(new Failure("", 503)), () => Promise.resolve()];
    let begun = 0;
    const cuts: boolean[] = [];
    connected.value = false;
    let over = false;
    const lasted = lasting(() => ends[begun++]!(), new AbortController().signal, (is) => cuts.push(is)).then(() => void (over = true));
    await vi.advanceTimersByTimeAsync(60_000);
    expect([begun, over], "nothing is asked of an engine that is away").toEqual([1, false]);
    connected.value = true;
    await vi.advanceTimersByTimeAsync(5000);
    await lasted;
    expect([begun, over, cuts.length]).toEqual([3, true, 2]);
  });

  it("does not hide what is no cut, and ends with who wanted it", async () => {
    const controller = new AbortController();
    await expect(lasting(() => Promise.reject(new Failure("no such container", 404)), controller.signal, () => {})).rejects.toThrow("no such container");
    connected.value = false;
    const waiting = expect(lasting(() => Promise.reject(new Failure("", 0)), controller.signal, () => {})).rejects.toThrow("not wanted");
    await vi.advanceTimersByTimeAsync(2000);
    controller.abort();
    await waiting;
  });

  it("leaves nothing behind at the signal that would have ended it", async () => {
    const controller = new AbortController();
    const added = vi.spyOn(controller.signal, "addEventListener");
    const removed = vi.spyOn(controller.signal, "removeEventListener");
    const listeners = () => added.mock.calls.filter(([, one]) => !removed.mock.calls.some(([, other]) => other === one)).length;
    const ready = signal(false);
    const waited = until(() => ready.value, controller.signal);
    expect(listeners()).toBe(1);
    ready.value = true;
    await waited;
    expect(listeners()).toBe(0);

    connected.value = true;
    const ends = [() => Promise.reject(new Failure("", 0)), () => Promise.resolve()];
    const lasted = lasting(() => ends.shift()!(), controller.signal, () => {});
    await vi.advanceTimersByTimeAsync(5000);
    await lasted;
    expect(listeners()).toBe(0);
  });

  it("tells of traffic again after its engine has ended in order", async () => {
    const controller = new AbortController();
    connected.value = true;
    async function* one(received: number) {
      yield { received, sent: 0 };
    }
    let begun = 0;
    vi.spyOn(docker, "traffic").mockImplementation(async () => {
      begun += 1;
      if (begun > 2) throw new Failure("not told", 404);
      return one(begun);
    });
    const followed = expect(followTraffic(controller.signal)).rejects.toThrow("not told");
    await vi.advanceTimersByTimeAsync(10_000);
    await followed;
    expect(traffic.value.map(({ received }) => received)).toEqual([1, null, 2]);
    expect(begun).toBe(3);
  });
});
