/* Filters in classic BPF, as libpcap compiles what tcpdump's users write (McCanne and
 * Jacobson, "The BSD Packet Filter", 1993): an accumulator, an index register, some words
 * of memory, and jumps that only go forward, so every program ends.
 *
 * filter_valid() refuses what filter_run() could not do safely: it is asked once, by who
 * brings a program; running it then only has to look at the packet's bounds. A load from
 * outside the packet ends the program with no, as in the kernel. */
#include "watch.h"

#include <linux/filter.h>

/* ---- valid? -------------------------------------------------------------------------- */

static bool valid_load(const struct fp_instruction *it)
{
    bool index = BPF_CLASS(it->code) == BPF_LDX;
    switch (BPF_MODE(it->code)) {
    case BPF_IMM:
    case BPF_LEN:
        return BPF_SIZE(it->code) == BPF_W;
    case BPF_MEM:
        return BPF_SIZE(it->code) == BPF_W && it->k < BPF_MEMWORDS;
    case BPF_ABS:
    case BPF_IND:
        return !index && BPF_SIZE(it->code) != 0x18;
    case BPF_MSH:
        return index && BPF_SIZE(it->code) == BPF_B;
    default:
        return false;
    }
}

static bool valid_arithmetic(const struct fp_instruction *it)
{
    bool constant = BPF_SRC(it->code) == BPF_K;
    switch (BPF_OP(it->code)) {
    case BPF_DIV:
    case BPF_MOD:
        return !constant || it->k;
    case BPF_LSH:
    case BPF_RSH:
        return !constant || it->k < 32;
    case BPF_NEG:
        return constant;
    default:
        return BPF_OP(it->code) <= BPF_XOR;
    }
}

/* `left` instructions follow this one. */
static bool valid_jump(const struct fp_instruction *it, uint32_t left)
{
    if (it->code == (BPF_JMP | BPF_JA)) return it->k < left;
    if (BPF_OP(it->code) == BPF_JA) return false;
    return BPF_OP(it->code) <= BPF_JSET && it->jt < left && it->jf < left;
}

static bool valid_instruction(const struct fp_instruction *it, uint32_t left)
{
    switch (it->code) {
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
        return true;
    case BPF_ST:
    case BPF_STX:
        return left && it->k < BPF_MEMWORDS;
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
        return left;
    }
    if (it->code > 0xff) return false;
    switch (BPF_CLASS(it->code)) {
    case BPF_LD:
    case BPF_LDX:
        return left && valid_load(it);
    case BPF_ALU:
        return left && valid_arithmetic(it);
    case BPF_JMP:
        return valid_jump(it, left);
    default:
        return false;
    }
}

bool filter_valid(const struct fp_instruction *program, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!valid_instruction(&program[i], count - i - 1)) return false;
    return count <= BPF_MAXINSNS;
}

/* ---- run ----------------------------------------------------------------------------- */

struct machine {
    const uint8_t *packet;
    uint32_t length;
    uint32_t a, x, memory[BPF_MEMWORDS];
};

/* Load `size` (of BPF_SIZE) bytes at an offset. False if they are not in the packet. */
static bool load(const struct machine *m, uint32_t size, uint64_t at, uint32_t *value)
{
    uint32_t bytes = size == BPF_W ? 4 : size == BPF_H ? 2 : 1;
    if (at + bytes > m->length) return false;
    const uint8_t *p = m->packet + at;
    *value = bytes == 4 ? load32(p) : bytes == 2 ? load16(p) : *p;
    return true;
}

static bool run_load(struct machine *m, const struct fp_instruction *it)
{
    uint32_t *to = BPF_CLASS(it->code) == BPF_LDX ? &m->x : &m->a, byte;
    switch (BPF_MODE(it->code)) {
    case BPF_IMM:
        *to = it->k;
        return true;
    case BPF_LEN:
        *to = m->length;
        return true;
    case BPF_MEM:
        *to = m->memory[it->k];
        return true;
    case BPF_MSH: /* the length of an IPv4 header */
        if (!load(m, BPF_B, it->k, &byte)) return false;
        *to = (byte & 15) * 4;
        return true;
    default: {
        uint32_t index = BPF_MODE(it->code) == BPF_IND ? m->x : 0;
        return load(m, BPF_SIZE(it->code), (uint64_t)index + it->k, to);
    }
    }
}

/* False for a division by zero. */
static bool run_arithmetic(struct machine *m, const struct fp_instruction *it)
{
    uint32_t operand = BPF_SRC(it->code) == BPF_X ? m->x : it->k, op = BPF_OP(it->code);
    switch (op) {
    case BPF_ADD:
        m->a += operand;
        return true;
    case BPF_SUB:
        m->a -= operand;
        return true;
    case BPF_MUL:
        m->a *= operand;
        return true;
    case BPF_OR:
        m->a |= operand;
        return true;
    case BPF_AND:
        m->a &= operand;
        return true;
    case BPF_XOR:
        m->a ^= operand;
        return true;
    case BPF_LSH:
        m->a = operand < 32 ? m->a << operand : 0;
        return true;
    case BPF_RSH:
        m->a = operand < 32 ? m->a >> operand : 0;
        return true;
    case BPF_NEG:
        m->a = -m->a;
        return true;
    default:
        if (!operand) return false;
        m->a = op == BPF_DIV ? m->a / operand : m->a % operand;
        return true;
    }
}

/* How many instructions to pass over. */
static uint32_t run_jump(const struct machine *m, const struct fp_instruction *it)
{
    uint32_t operand = BPF_SRC(it->code) == BPF_X ? m->x : it->k;
    switch (BPF_OP(it->code)) {
    case BPF_JA:
        return it->k;
    case BPF_JEQ:
        return m->a == operand ? it->jt : it->jf;
    case BPF_JGT:
        return m->a > operand ? it->jt : it->jf;
    case BPF_JGE:
        return m->a >= operand ? it->jt : it->jf;
    default:
        return m->a & operand ? it->jt : it->jf;
    }
}

bool filter_run(const struct fp_instruction *it, const uint8_t *packet, uint32_t length)
{
    struct machine m = {.packet = packet, .length = length};
    for (;; it++) {
        bool goes_on = true;
        switch (BPF_CLASS(it->code)) {
        case BPF_LD:
        case BPF_LDX:
            goes_on = run_load(&m, it);
            break;
        case BPF_ST:
            m.memory[it->k] = m.a;
            break;
        case BPF_STX:
            m.memory[it->k] = m.x;
            break;
        case BPF_ALU:
            goes_on = run_arithmetic(&m, it);
            break;
        case BPF_JMP:
            it += run_jump(&m, it);
            break;
        case BPF_RET:
            return BPF_RVAL(it->code) == BPF_A ? m.a : it->k;
        default:
            if (BPF_MISCOP(it->code) == BPF_TAX)
                m.x = m.a;
            else
                m.a = m.x;
        }
        if (!goes_on) return false;
    }
}
