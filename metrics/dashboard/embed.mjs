// Writes the built dashboard as a C table: node embed.mjs DIST OUT.c
// Text is kept in gzip, fonts as they are. Prints what a first visit loads.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
};
const MOST = 400 * 1000;

const [dist, out] = process.argv.slice(2);
const files = [['', 'index.html'], ...readdirSync(join(dist, 'assets')).sort().map((name) => [name, join('assets', name)])];
let total = 0;

function literal(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 64) {
    let line = '';
    for (const byte of bytes.subarray(at, at + 64)) line += '\\' + byte.toString(8).padStart(3, '0');
    text += `\n    "${line}"`;
  }
  return text;
}

let table = '';
for (const [name, file] of files) {
  const type = TYPES[extname(file)];
  if (!type) throw new Error(`${file}: no media type is known for ${extname(file)}; add it to embed.mjs`);
  if (!/^[\w.-]*$/.test(name)) throw new Error(`${file}: the name has signs that a URL would have to encode`);
  const content = readFileSync(join(dist, file));
  const packed = type.startsWith('font/') ? content : gzipSync(content, { level: 9 });
  const plain = packed === content ? 0 : content.length;
  const etag = createHash('sha256').update(content).digest('hex').slice(0, 16);
  total += packed.length;
  table += `    {"${name}", "${type}", "\\"${etag}\\"",${literal(packed)},\n     ${packed.length}, ${plain}},\n`;
}
console.log(`${files.length} files, ${total} bytes compressed`);
if (total > MOST) throw new Error(`The dashboard has ${total} bytes compressed: more than ${MOST}. Leave something out.`);
writeFileSync(
  out,
  `/* Made by metrics/dashboard/embed.mjs. */
#include "proxy/page_assets.h"

const char page_left_out[] = "";
const struct page_asset page_assets[] = {
${table}    {0}};
`,
);
