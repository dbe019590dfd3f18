// As shares.c, in code that V8 compiles while it runs.
const spin = (n) => { let x = 1; for (let i = 0; i < n; i++) { x ^= x << 13; x ^= x >>> 17; x ^= x << 5; } return x; };
let sink = 0;
function alpha() { sink = spin(5000000); }
function beta() { sink = spin(3000000); }
function gamma(depth) { return depth === 0 ? spin(2000000) : gamma(depth - 1) + 1; }
const used = () => { const usage = process.cpuUsage(); return (usage.user + usage.system) / 1e6; };
const took = { alpha: 0, beta: 0, gamma: 0 };
let now = used();
for (const end = now + Number(process.argv[2] ?? 3); now < end;) {
  for (const [name, part] of [['alpha', alpha], ['beta', beta], ['gamma', () => { sink = gamma(20); }]]) {
    const at = now;
    part();
    now = used();
    took[name] += now - at;
  }
}
console.log(`alpha ${took.alpha} beta ${took.beta} gamma ${took.gamma}`);
