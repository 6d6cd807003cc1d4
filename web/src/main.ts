import "./styles/base.css";
import { mount } from "svelte";
import App from "./App.svelte";
import { live } from "./lib/live.svelte";

mount(App, { target: document.getElementById("app")! });
void live.start();
