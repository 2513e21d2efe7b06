import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Resource } from "../src/state/resource";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Answers are given by hand, in any order. */
function source() {
  const waiting: ((value: number) => void)[] = [];
  const resource = new Resource(() => new Promise<number>((resolve) => waiting.push(resolve)), 100);
  return { resource, waiting };
}

describe("what is fetched", () => {
  it("is fetched once, however many want it, and not when nobody does", async () => {
    const { resource, waiting } = source();
    const releases = [resource.want(), resource.want()];
    expect(waiting.length).toBe(1);
    waiting[0]!(1);
    await vi.advanceTimersByTimeAsync(0);
    expect(resource.data.value).toBe(1);
    for (const release of releases) release();
    resource.changed();
    await vi.advanceTimersByTimeAsync(1000);
    expect(waiting.length).toBe(1);
    resource.want();
    expect(waiting.length).toBe(2);
  });

  it("is fetched once for a row of changes, and again for one that came meanwhile", async () => {
    const { resource, waiting } = source();
    resource.want();
    waiting[0]!(1);
    await vi.advanceTimersByTimeAsync(0);
    for (let change = 0; change < 5; change += 1) resource.changed();
    await vi.advanceTimersByTimeAsync(100);
    expect(waiting.length).toBe(2);
    resource.changed();
    await vi.advanceTimersByTimeAsync(1000);
    expect(waiting.length, "one at a time").toBe(2);
    waiting[1]!(2);
    await vi.advanceTimersByTimeAsync(0);
    expect(waiting.length).toBe(3);
    waiting[2]!(3);
    await vi.advanceTimersByTimeAsync(0);
    expect(resource.data.value).toBe(3);
  });

  it("says why it could not be, and is asked for again by who comes next", async () => {
    let fails = true;
    const resource = new Resource(() => (fails ? Promise.reject(new Error("no")) : Promise.resolve(1)));
    resource.want()();
    await vi.advanceTimersByTimeAsync(0);
    expect(resource.error.value?.message).toBe("Error: no");
    fails = false;
    resource.want();
    await vi.advanceTimersByTimeAsync(0);
    expect([resource.data.value, resource.error.value]).toEqual([1, null]);
  });
});
