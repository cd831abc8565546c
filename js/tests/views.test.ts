import { expect, it } from "vitest";
import type { Outgoing } from "../src/channel.ts";
import { Views } from "../src/views.ts";

function watch(): { views: Views; told: (number | null)[] } {
  const told: (number | null)[] = [];
  const pages = new Set<string>();
  const views = new Views((message: Outgoing) => {
    if (message.kind !== "views") throw new Error(`a message of kind ${message.kind}`);
    told.push(message.count);
    expect(pages.add(message.page).size).toBe(1);
  });
  return { views, told };
}

it("tells how many views there are whenever that changes", () => {
  const { views, told } = watch();
  const takeFirst = views.add();
  const takeSecond = views.add();
  takeFirst();
  takeFirst();
  takeSecond();
  expect(told).toEqual([1, 2, 1, 0]);
});

it("tells again what the kernel does not know, and nothing more", () => {
  const { views, told } = watch();
  const takeBack = views.add();
  for (const known of [1, 2, null, 0, 0]) views.check(known);
  takeBack();
  views.check(0);
  expect(told).toEqual([1, 1, 1, 0]);
});

it("says that the page was left, where it had a view", () => {
  const { views, told } = watch();
  views.leave();
  views.add();
  views.leave();
  expect(told).toEqual([1, null]);
});

it("is told apart from other pages", () => {
  const pages: string[] = [];
  const note = (message: Outgoing) => "page" in message && pages.push(message.page);
  new Views(note).add();
  new Views(note).add();
  expect(new Set(pages).size).toBe(2);
});
