// Browsers start no worker for a page that was opened as a file: there the search runs in a hidden frame instead.
class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    this.ready = new Promise(resolve => { this.frame.onload = resolve; });
    window.addEventListener("message", event => {
      if (event.source === this.frame.contentWindow) this.dispatchEvent(new MessageEvent("message", {data: event.data}));
    });
    this.frame.srcdoc = `<script>
      postMessage = message => parent.postMessage(message, "*");
      importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done, failed) => {
        document.head.append(Object.assign(document.createElement("script"), {src: url, onload: done, onerror: failed}));
      })), Promise.resolve());
    <\/script><script src="${url}"><\/script>`;
    document.body ? document.body.append(this.frame) : addEventListener("DOMContentLoaded", () => document.body.append(this.frame));
  }
  postMessage(data) { this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data}))); }
  terminate() { this.frame.remove(); }
}
if (location.protocol === "file:") window.Worker = FrameWorker;
