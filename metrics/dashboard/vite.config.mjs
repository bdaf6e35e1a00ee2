import { defineConfig } from 'vite';

export default defineConfig({
  base: './', // every address relative to the page, so that any path prefix does
  publicDir: false,
  build: {
    target: 'es2020',
    assetsInlineLimit: 0, // nothing inline: the page's Content-Security-Policy allows none
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1000,
    reportCompressedSize: false,
  },
});
