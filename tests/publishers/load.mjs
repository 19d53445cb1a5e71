// Load every package named and print the names; what cannot be loaded ends it.
const names = process.argv.slice(2);
for (const name of names) await import(name);
console.log(JSON.stringify(names));
