// What ggml's Vulkan backend names and Vulkan headers before 1.3.272 lack: the types of VK_EXT_layer_settings.
//
// Stands before the system's header of the same name, takes that in, and adds the types where they are missing, so
// that the backend is compiled as it is. It passes them only to a validation layer, which a build of ours never
// asks for (GGML_VULKAN_VALIDATE); a driver that does not know a structure in a chain skips it by its number.
// Values and layouts: the Vulkan specification, VkLayerSettingsCreateInfoEXT.
#pragma once
#pragma GCC system_header

#include_next <vulkan/vulkan.hpp>

#ifndef VK_EXT_layer_settings

namespace VULKAN_HPP_NAMESPACE {

enum class LayerSettingTypeEXT { eBool32 = 0 };

struct LayerSettingEXT {
    const char *pLayerName;
    const char *pSettingName;
    LayerSettingTypeEXT type;
    uint32_t valueCount;
    const void *pValues;
};

struct LayerSettingsCreateInfoEXT {
    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> &settings)
        : settingCount(static_cast<uint32_t>(settings.size())), pSettings(settings.data()) {}

    StructureType sType = static_cast<StructureType>(1000496000);
    const void *pNext = nullptr;
    uint32_t settingCount;
    const LayerSettingEXT *pSettings;
};

} // namespace VULKAN_HPP_NAMESPACE

#endif
