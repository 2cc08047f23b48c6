/** The engine's worker in a browser that tells how much room there is, which Chromium keeps to itself: `?quota=`, in bytes. */
import "./tell-storage.js";
import "../smollm-web/worker.js";
