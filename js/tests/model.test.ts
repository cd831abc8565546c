import { expect, it, vi } from "vitest";
import { listen, releaseOnce } from "../src/model.ts";
import { FakeModel } from "./helpers/FakeModel.ts";

it("listens until told to stop", () => {
  const model = new FakeModel({});
  const heard: unknown[] = [];
  const stop = listen(model.proxy(), { a: (value) => heard.push(value), b: (value) => heard.push(value) });
  model.emit("a", 1);
  model.emit("b", 2);
  stop();
  stop();
  model.emit("a", 3);
  expect(heard).toEqual([1, 2]);
  expect(model.listenerCount).toBe(0);
});

it("releases once, whether the signal or the caller comes first", () => {
  const release = vi.fn();
  const first = new AbortController();
  const stop = releaseOnce(first.signal, release);
  first.abort();
  stop();
  expect(release).toHaveBeenCalledTimes(1);
  releaseOnce(undefined, release)();
  expect(release).toHaveBeenCalledTimes(2);
});
