def more(vars, context):
    return {**vars, 'y': vars['x'] * 2}
