const least = 3;
function good(output) { return output.length >= least; }
async function score(output) { return output.length / 10; }
module.exports = { good, score, list: () => ['good', 'x'], text: () => 'go', flag: () => true, nothing: () => {}, nil: () => null, wrong: () => 'x', thrown: () => { throw new Error('no'); }, object: (output, { vars }) => ({ pass: true, score: 0.5, reason: vars.q }) };
