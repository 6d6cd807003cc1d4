import "./styles/base.css";
import { mount } from "svelte";
import App from "./App.svelte";
import { live } from "./lib/live.svelte";

const place = document.getElementById("app")!;
place.replaceChildren(); // what stood there until the scripts came
mount(App, { target: place });
void live.start();
