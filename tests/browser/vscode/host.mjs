// A page with VS Code's own widget manager and a kernel of the Jupyter server that serves it. It stands for VS Code's
// notebook view: of VS Code there is the widget manager, not the relay to the extension host and not the web view.
import { KernelManager, ServerConnection } from "@jupyterlab/services";
import { activate } from "@vscode/jupyter-ipywidgets8";

const VIEW = "application/vnd.jupyter.widget-view+json";

/** Start a kernel, and give what runs code in it and shows the widgets that the code displays. */
async function open(token) {
  const serverSettings = ServerConnection.makeSettings({
    baseUrl: `${location.origin}/`,
    token,
    appendToken: true,
  });
  const kernel = await new KernelManager({ serverSettings }).startNew({ name: "python3" });
  activate();
  window.vscIPyWidgets8.load();
  const loader = {
    widgetsRegisteredInRequireJs: new Set(["anywidget"]),
    successHandler: () => {},
    errorHandler: (name, module, version, error) => {
      throw new Error(`${module} ${version} has no ${name}: ${error}`);
    },
  };
  const widgets = new window.vscIPyWidgets.WidgetManager(kernel, document.body, loader, () => {});

  async function show(data) {
    const node = document.body.appendChild(document.createElement("div"));
    const model = await widgets.get_model(data.model_id);
    await widgets.display_view(data, await widgets.create_view(model, { el: node }), { node });
  }

  return {
    /** Run a cell; done when it has ended. */
    async run(code) {
      const future = kernel.requestExecute({ code });
      const shown = [];
      future.onIOPub = ({ content }) => {
        if (content.data?.[VIEW]) shown.push(show(content.data[VIEW]));
      };
      const { content } = await future.done;
      if (content.status !== "ok") throw new Error(`${content.ename}: ${content.evalue}`);
      await Promise.all(shown);
    },
    close: () => kernel.shutdown(),
  };
}

window.openHost = open;
