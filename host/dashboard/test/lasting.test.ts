import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Failure } from "../src/api/http";

vi.stubGlobal("navigator", { languages: ["en"] });
const { connected } = await import("../src/state/engine");
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
});
