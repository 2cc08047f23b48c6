/** Puts the page together: kept state in, components mounted, changes drawn once a frame. */
import { SmolLM, isolate } from "./smollm-web/index.js";
import { mountComposer } from "./components/composer.js";
import { openEngineDialog, openSystemDialog } from "./components/dialogs.js";
import { mountNotice } from "./components/notice.js";
import { mountToast } from "./components/toast.js";
import { mountTopBar } from "./components/top-bar.js";
import { mountTranscript } from "./components/transcript.js";
import { Controller } from "./controller.js";
import { setText } from "./dom.js";
import { mountDrop } from "./drop.js";
import { fromJson, isAnswering, toJson } from "./logic/conversation.js";
import { pageOptions } from "./logic/options.js";
import { Offline } from "./offline.js";
import { keepState } from "./saved-state.js";
import * as storage from "./storage.js";

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

// Before anything begins: on a host that sets no headers, this reloads the page once.
await isolate({ workerUrl: Offline.WORKER });

const options = pageOptions(location.search);
const known = await SmolLM.models.list();
const model = known.find(({ id }) => id === options.model);
/** @param {string | undefined} name */
const labelOf = (name) => known.find(({ id }) => id === name)?.label ?? name ?? "";
const controller = new Controller(options, fromJson(storage.readConversation()), model?.cached ?? false);

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";

const toast = mountToast(byId("toast"));
const notice = mountNotice(byId("notice"));
const offline = new Offline({
  update: () => notice.show("A new version of this page is ready.", reload),
  // Its files are gone: it may still say what it was saying.
  replaced: () => void controller.answered().then(() => location.reload()),
});
const reload = { label: "Reload", run: () => void takeOver() };
async function takeOver() {
  keep();
  const others = await offline.takeOver().catch(() => {
    // The one before still rules, and says again that there is another.
    location.reload();
    return 0;
  });
  if (others > 0) notice.show("Close the other tabs of this page first: all of them have one version.", reload);
}
const composer = mountComposer(byId("composer"), {
  send: (text) => {
    toast.hide();
    void controller.send(text);
  },
  stop: () => controller.stop(),
});
const topBar = mountTopBar(byId("top-bar"), {
  clear: () => {
    const before = controller.clear();
    toast.show("New chat", { label: "Undo", run: () => controller.restore(before) });
    composer.focus();
  },
  editSystemPrompt: () => openSystemDialog(controller.state.conversation.systemPrompt, (text) => {
    if (text === controller.state.conversation.systemPrompt) return;
    const before = controller.state.conversation;
    controller.setSystemPrompt(text);
    if (before.messages.length > 0) toast.show("New chat with the new system prompt", { label: "Undo", run: () => controller.restore(before) });
  }),
  showEngine: () => openEngineDialog(controller.state.info, labelOf(controller.state.info?.model), worksOffline, controller.journal),
  toggleTheme: () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    storage.writeTheme(theme);
    draw();
  },
});
const transcript = mountTranscript(byId("transcript"), {
  load: (how) => void controller.load(how),
  cancelLoad: () => controller.cancelLoad(),
  suggest: (text) => {
    void controller.send(text);
    composer.focus();
  },
  retry: () => {
    void controller.retry();
    composer.focus();
  },
  copied: () => setText(byId("announcer"), "Copied"),
});

mountDrop(document, {
  open: (files) => void controller.open(files),
  refuse: () => toast.show("Drop a .gguf file, or all files of a model's folder"),
});

function draw() {
  const { state } = controller;
  const { conversation, progress } = state;
  topBar.update({
    engine: state.engine,
    percent: progress && progress.total > 0 ? Math.floor((100 * progress.loaded) / progress.total) : null,
    name: labelOf(state.info?.model),
    dark: isDark(),
    empty: conversation.messages.length === 0,
    custom: conversation.systemPrompt !== null,
  });
  transcript.update(state, model ?? { bytes: 0, memoryBytes: 0 });
  composer.update({ answering: isAnswering(conversation) });
}

/** Whether page, engine and model are all on this device. */
let worksOffline = false;
/** @type {unknown} */
let keptFor = null;
/** With the model loaded it is known which build of the engine this browser runs. */
function keepEngine() {
  const { info } = controller.state;
  if (info === null || info.build === keptFor) return;
  keptFor = info.build;
  void offline.keep(info.build).then((whole) => { worksOffline = whole; });
}

let frame = 0;
let spoken = "";
controller.addEventListener("change", () => {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    draw();
  });
  announce();
  keepEngine();
  keepSoon();
});
systemDark.addEventListener("change", draw);

/** Says what a screen reader should say: whole answers, not their pieces. */
function announce() {
  const last = controller.state.conversation.messages.at(-1);
  const now = `${last?.id}:${last?.status}`;
  if (!last || last.role !== "assistant" || now === spoken || last.status === "streaming") return;
  spoken = now;
  setText(byId("announcer"), last.status === "waiting" ? "SmolLM is answering" : last.content);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let keeping;
function keepSoon() {
  keeping ??= setTimeout(keep, 500);
}
function keep() {
  clearTimeout(keeping);
  keeping = undefined;
  storage.writeConversation(toJson(controller.state.conversation));
}
function keepNow() {
  if (keeping !== undefined) keep();
}
// A page that is out of sight may be ended without another word.
addEventListener("pagehide", keepNow);
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "hidden") keepNow(); });

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]") && isAnswering(controller.state.conversation)) {
    controller.stop();
    composer.focus();
  }
});

keepState(controller);
draw();
offline.start();
// On a phone, focus would open the keyboard over the greeting.
if (matchMedia("(hover: hover)").matches) composer.focus();
// A visitor who saves data decides about the download; everybody else came to chat.
if (!(/** @type {any} */ (navigator).connection?.saveData)) void controller.load();
