export const named = () => true;
export default (output) => output === 'good';
