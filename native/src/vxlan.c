/* VXLAN on the wire (RFC 7348 section 5): its header, and the Ethernet header behind it.
 * The twin, with the reasons, is encap/vxlan.py.
 *
 *  0       1               4           7   8            14       20          22
 * +-------+---------------+-----------+---+------------+--------+-----------+- - -
 * | flags | reserved      | VNI       | 0 | to         | from   | EtherType | packet
 * +-------+---------------+-----------+---+------------+--------+-----------+- - -
 */
#include "fastpath.h"

#include <string.h>

enum { VALID_VNI = 0x08 };

static void store_mac(uint8_t *p, uint64_t mac)
{
    store16(p, (uint16_t)(mac >> 32));
    store32(p + 2, (uint32_t)mac);
}

static uint64_t load_mac(const uint8_t *p)
{
    return (uint64_t)load16(p) << 32 | load32(p + 2);
}

void vxlan_put(uint8_t *out, const struct fp_config *own, uint64_t mac, uint8_t version)
{
    store32(out, VALID_VNI << 24);
    store32(out + 4, own->vni << 8);
    store_mac(out + 8, mac);
    store_mac(out + 14, own->mac);
    store16(out + 20, version == 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
}

int vxlan_check(const struct fp_config *own, const uint8_t *datagram, uint32_t length)
{
    if (length < FP_HEADROOM) return FP_SHORT;
    if (load32(datagram) != VALID_VNI << 24 || datagram[7]) return FP_BAD_FLAGS;
    if (load32(datagram + 4) >> 8 != own->vni) return FP_WRONG_VNI;
    uint64_t from = load_mac(datagram + 14);
    bool group = datagram[14] & 1;
    if (load_mac(datagram + 8) != own->mac || !from || group || from == own->mac)
        return FP_WRONG_MAC;
    uint16_t type = load16(datagram + 20);
    return type == ETHERTYPE_IPV4 || type == ETHERTYPE_IPV6 ? -1 : FP_BAD_ETHERTYPE;
}
