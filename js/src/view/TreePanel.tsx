import type { JSX } from "preact";
import { hasData, troubleOf } from "../nodes.ts";
import type { TreeStore } from "../store.ts";
import { Crumbs } from "./Crumbs.tsx";
import { DetailsPane } from "./DetailsPane.tsx";
import { Header } from "./Header.tsx";
import { Notice } from "./Notice.tsx";
import { Tools } from "./Tools.tsx";
import { TreeList } from "./TreeList.tsx";
import { Trouble } from "./Trouble.tsx";
import { useFrames } from "./useFrames.ts";

interface TreePanelProps {
  store: TreeStore;
  /** Maximal height of the list in CSS pixels. */
  height: number;
  /** Unique in the document. */
  id: string;
}

/** The whole browser: header, notice, and the tree or the reason why there is none. */
export function TreePanel({ store, height, id }: TreePanelProps): JSX.Element {
  useFrames(store);
  return (
    <div class="itx-panel">
      <Header store={store} />
      {store.notice && <Notice error={store.notice} onDismiss={() => store.dismiss()} />}
      <Body store={store} height={height} id={id} />
    </div>
  );
}

function Body({ store, height, id }: TreePanelProps): JSX.Element {
  const { tree } = store;
  const root = tree.get(tree.root);
  if (!hasData(root)) {
    const trouble = troubleOf(root);
    if (!trouble) return <p class="itx-remark">{describeAbsence(store)}</p>;
    return (
      <section class="itx-box" aria-labelledby={`${id}-failure`}>
        <h4 id={`${id}-failure`}>Could not load stream tree</h4>
        <Trouble
          error={{ ...trouble, message: trouble.message || "The root stream state could not be read." }}
          canAsk={store.canAsk}
          onRetry={() => store.refresh(tree.root)}
        />
      </section>
    );
  }
  return (
    <>
      <Crumbs store={store} id={id} />
      <Tools store={store} />
      <TreeList store={store} height={height} id={id} />
      {root?.state === "loaded" && root.children.length === 0 && (
        <p class="itx-remark">No child streams yet.</p>
      )}
      <DetailsPane key={store.details.path} store={store} id={`${id}-details`} />
    </>
  );
}

function describeAbsence(store: TreeStore): string {
  return store.canAsk ? "Loading stream tree..." : "The stream tree was not loaded when this was saved.";
}
