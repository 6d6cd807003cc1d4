import "./styles/base.css";
import { mount } from "svelte";
import ExportApp from "./replay/ExportApp.svelte";
import { exportedHere } from "./replay/exported";

const target = document.getElementById("app")!;
const exported = exportedHere();
if (exported) {
  document.title = [exported.prd, exported.title, "claude-loop replay"].filter(Boolean).join(" · ");
  mount(ExportApp, { target, props: { exported } });
} else {
  target.textContent = "This page holds no run. `claude-loop export --prd PRD --format html` makes one that does.";
}
