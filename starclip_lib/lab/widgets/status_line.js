// The line below the controls: a message, a button that cancels what takes long, and a notice when the kernel has ended.
const SLOW = 700; // milliseconds of work before the button appears
const LOST = 5000; // milliseconds without a connection before the page tells
const ENDED = ["dead", "restarting", "autorestarting"];
const NOTICES = {
  ended: "The Python process of this page has ended. Reload the page to start again (in a notebook: run its cells again).",
  lost: "The page has lost its server. Reload the page; if that fails, run `starclip browse` again and open its new address.",
};

function render({ model, el }) {
  const kernel = model.widget_manager.kernel;
  const text = document.createElement("span");
  text.setAttribute("role", "status");
  const cancel = document.createElement("button");
  cancel.className = "jupyter-button widget-button";
  cancel.style.cssText = "width:auto; margin-left:12px";
  cancel.textContent = "Cancel";
  cancel.addEventListener("click", () => kernel.interrupt());
  el.style.cssText = "min-height:34px; line-height:34px; margin-left:2px"; // the page below stays where it is
  el.append(text, cancel);

  let slow = false, notice = "", slowTimer = 0, lostTimer = 0;
  const show = () => {
    text.textContent = notice || model.get("value") || (slow ? "Working ..." : "");
    text.style.color = notice || model.get("bad") ? "#b00020" : "#444444";
    cancel.hidden = !slow || notice !== "";
    cancel.style.display = cancel.hidden ? "none" : "";
  };
  const onStatus = () => {
    clearTimeout(slowTimer);
    slow = slow && kernel.status === "busy";
    if (kernel.status === "busy" && !slow) slowTimer = setTimeout(() => { slow = true; show(); }, SLOW);
    if (ENDED.includes(kernel.status)) notice = NOTICES.ended;
    show();
  };
  const onConnection = () => {
    clearTimeout(lostTimer);
    if (kernel.connectionStatus !== "connected") {
      lostTimer = setTimeout(() => { notice = notice || NOTICES.lost; show(); }, LOST);
    } else if (notice === NOTICES.lost) {
      notice = "";
    }
    show();
  };
  model.on("change:value change:bad", show);
  kernel.statusChanged.connect(onStatus);
  kernel.connectionStatusChanged.connect(onConnection);
  onStatus();
  return () => {
    kernel.statusChanged.disconnect(onStatus);
    kernel.connectionStatusChanged.disconnect(onConnection);
  };
}

export default { render };
