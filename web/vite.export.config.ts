import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

/** Puts script and style into the page itself: the exported file is one file, opened from disk. */
function inlineEverything(): Plugin {
  return {
    name: "inline-everything",
    enforce: "post",
    generateBundle(_, bundle) {
      const page = bundle["export.html"];
      if (page?.type !== "asset") throw new Error("export.html is missing in the bundle");
      let html = String(page.source);
      for (const [name, part] of Object.entries(bundle)) {
        if (part.type === "chunk") {
          // `</script` in a string would end the element.
          const code = part.code.replaceAll("</script", "<\\/script");
          html = html.replace(/<script type="module"[^>]*src=[^>]*><\/script>/, "");
          html = html.replace("</body>", () => `<script type="module">${code}</script>\n</body>`);
        } else if (name.endsWith(".css")) {
          html = html.replace(/<link rel="stylesheet"[^>]*>/, () => `<style>${String(part.source)}</style>`);
        } else continue;
        delete bundle[name];
      }
      page.source = html;
    },
  };
}

export default defineConfig({
  plugins: [svelte(), inlineEverything()],
  build: {
    outDir: "../claude_loop/web/dist",
    emptyOutDir: false,
    target: "es2022",
    cssTarget: ["chrome123", "firefox121", "safari17.5"],
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: { input: "export.html", output: { codeSplitting: false } },
  },
});
